"""The attention explorer: every head of a prompt in one element that answers in the browser alone."""
