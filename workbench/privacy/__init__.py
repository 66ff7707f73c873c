"""Privacy: personal data and secrets in a corpus, and training rows that a model remembers."""
