"""Policies in other processes; needs only NumPy, msgpack and websockets."""
