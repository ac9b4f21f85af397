"""Policies in other processes. Needs NumPy, msgpack and websockets only."""
