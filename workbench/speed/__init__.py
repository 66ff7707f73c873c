"""Benchmarks of speed against reference implementations: time ratio and exactness."""
