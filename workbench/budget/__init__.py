"""What work costs before it starts, what runs now, and what a larger model would reach."""
