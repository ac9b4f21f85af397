"""The search for better actions: draw, rank, climb, select."""
