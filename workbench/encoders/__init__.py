"""Encoders that see or hear: what they look at, which patches decide, and what each layer reads."""
