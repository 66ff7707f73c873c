"""Data files and data sets: one reader for every format, one registry of known sets."""
