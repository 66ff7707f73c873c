"""Runs of encoders and encoder-decoders with every activation in reach."""
