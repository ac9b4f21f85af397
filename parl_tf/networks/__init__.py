"""Keras networks of critics and policies."""
