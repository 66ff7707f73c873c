"""Where an answer comes from: the packed engine, maps, probes, circuits and interventions."""
