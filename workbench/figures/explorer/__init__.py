"""The attention explorer: every head of a prompt in one element that asks no server."""
