"""What each layer already says, and the input tokens that an output rests on."""
