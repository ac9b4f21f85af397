"""Data sets: episodes in files, their checks and how they are made."""
