"""Datasets: readers, validation and generation of episode files."""
