"""Privacy: what a corpus holds of people and secrets, and what a model keeps of its rows."""
