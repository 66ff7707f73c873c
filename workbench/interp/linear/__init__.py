"""What a linear probe can read off each layer."""
