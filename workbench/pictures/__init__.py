"""Pictures: a GPT that reads and draws 8 by 8 pixels, and what it looks at on them."""
