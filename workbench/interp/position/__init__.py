"""How a model knows order: the encoding itself, and what heads and stream do with it."""
