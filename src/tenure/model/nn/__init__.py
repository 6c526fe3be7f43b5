"""Building blocks that stand inside a network in place of transformers' own parts."""
