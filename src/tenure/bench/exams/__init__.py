"""Exams that are generated from tables: the general suite. Knows nothing of what is examined."""
