"""Models with parts taken out, steered, or changed."""
