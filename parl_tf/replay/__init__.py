"""The episode log and the two replay tables that training samples from."""
