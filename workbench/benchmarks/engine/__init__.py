"""Scoring requests on a Subject: batches, shared prefixes, cache, shards."""
