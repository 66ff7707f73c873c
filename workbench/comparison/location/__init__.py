"""Where a change lives: parts of one model put into the other."""
