"""Measuring ours against references: ratio and exactness."""
