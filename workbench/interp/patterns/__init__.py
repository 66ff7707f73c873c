"""What heads look at: patterns, their scores on known texts, and circuits read off the weights."""
