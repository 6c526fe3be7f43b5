"""HTTP doors: OpenAI's routes, feedback, nights as jobs, administration, and the proxy before another endpoint."""
