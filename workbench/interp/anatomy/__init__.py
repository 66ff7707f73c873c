"""Attention worked out step by step from the weights, and checked against the model."""
