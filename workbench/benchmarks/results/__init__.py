"""Results of an evaluation: scores, paired tests, reports."""
