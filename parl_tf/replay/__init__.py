"""Episodes, logged once, and the two tables that experience is drawn from."""
