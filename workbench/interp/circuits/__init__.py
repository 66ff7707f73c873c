"""Which edges between parts carry an answer."""
