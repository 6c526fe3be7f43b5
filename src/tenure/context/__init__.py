"""Layer 1: what changes the prompt and never the weights."""
