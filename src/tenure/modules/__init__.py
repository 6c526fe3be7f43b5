"""Layer 2: what can be attached to a frozen base and taken off again, how it is trained, and when it applies."""
