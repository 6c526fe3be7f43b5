"""Worlds of invented facts with their held-out questions: the loop's exams. Knows nothing of how a night learns."""
