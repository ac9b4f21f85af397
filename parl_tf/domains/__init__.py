"""Tasks: environments, scripted controllers and task constants."""
