"""Runs of several processes: replay service, roles and supervision."""
