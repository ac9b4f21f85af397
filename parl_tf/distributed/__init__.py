"""What only a run of several processes needs."""
