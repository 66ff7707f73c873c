"""What heads look at: patterns, their scores on known texts, and the circuits that the weights
make.
"""
