"""Bias: stereotypes by category, the heads that carry them, and what removing those costs."""
