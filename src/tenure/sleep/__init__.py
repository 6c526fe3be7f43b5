"""The night: experience becomes a candidate version, and a gate decides whether anyone will ever meet it."""
