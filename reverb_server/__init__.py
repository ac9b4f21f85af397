"""The stand-alone replay service."""
