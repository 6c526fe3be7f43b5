"""How good a ranking is when it is known what should have been found: recall, all found, nDCG, reciprocal rank."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def recall_at(ranked: Sequence[str], gold: Collection[str], k: int) -> float:
    """Share of the gold documents among the first k."""
    return len(set(ranked[:k]) & set(gold)) / len(gold)


def all_at(ranked: Sequence[str], gold: Collection[str], k: int) -> float:
    """1 when every gold document is among the first k, else 0."""
    return float(set(gold) <= set(ranked[:k]))


def ndcg_at(ranked: Sequence[str], gold: Collection[str], k: int) -> float:
    """Normalised discounted cumulative gain, gains of 0 and 1 (Järvelin, Kekäläinen 2002, eq. 2, logarithm to 2)."""
    gained = sum(1 / math.log2(place + 2) for place, name in enumerate(ranked[:k]) if name in gold)
    best = sum(1 / math.log2(place + 2) for place in range(min(k, len(gold))))
    return gained / best


def reciprocal_rank(ranked: Sequence[str], gold: Collection[str]) -> float:
    """1 / place of the first gold document, counted from 1; 0 when there is none."""
    return next((1 / place for place, name in enumerate(ranked, 1) if name in gold), 0.0)
