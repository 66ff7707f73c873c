"""Prompt pairs, and probes that make many of them."""
