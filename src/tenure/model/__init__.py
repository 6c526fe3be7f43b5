"""The base model: resolve, load, tokenize, generate and score.

Knows nothing of memories, versions' lineage or exams; called by everything above that needs the model.
"""
