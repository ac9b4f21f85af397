"""Tasks: environments, their controllers and their constants."""
