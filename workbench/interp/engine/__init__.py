"""The packed patching engine: sites, sources, metrics and sweeps."""
