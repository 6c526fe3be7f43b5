"""bench-retrieval: does memory find the turns that answer a question? LoCoMo, BEAM-100K and RealMem, no judge model.

Every document is remembered as it stands, then every question searched for in what its corpus holds by then. Reads the
folder that TENURE_DATA names; a set that isn't there is left out, with the reason. Targets stand in the issue tracker.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

from tenure.bench.record import write_result
from tenure.bench.retrieval.corpus import LOCOMO_CATEGORIES, Corpus, Document, Question, read_corpora
from tenure.bench.retrieval.ranking import all_at, ndcg_at, recall_at, reciprocal_rank
from tenure.config import Config
from tenure.errors import InputError
from tenure.model.progress import Progress, silent
from tenure.store.library import Store
from tenure.types import Memory, MemoryKind, Scope

SETS = {"locomo": "locomo", "beam": "beam_100k", "realmem": "realmem"}
NUM_FOUND = 20
ADVERSARIAL = LOCOMO_CATEGORIES[5]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what was found for it, best first, in so many seconds."""

    corpus: str
    question: Question
    ranked: tuple[str, ...]
    seconds: float


def run(config: Config, *, seeds: str = "", progress: Progress | None = None) -> None:
    """Measure every set that is there. `seeds` change nothing: nothing is drawn."""
    metrics: dict[str, Any] = {}
    for form, folder in SETS.items():
        try:
            corpora = read_corpora(Path(config.data).expanduser() / "context" / folder, form)
        except InputError as error:
            metrics[f"{form}_skipped"] = str(error)
            continue
        asked = [one for corpus in corpora for one in ask(corpus, progress=progress)]
        metrics |= {f"{form}_{key}": value for key, value in summary(asked).items()}
        if form == "locomo":
            metrics |= locomo_headlines(asked)
    write_result("retrieval", metrics, seeds=[])


def ask(corpus: Corpus, *, progress: Progress | None = None) -> Iterator[Asked]:
    """Remember a corpus in order and search for each question in what it may look at."""
    told = progress or silent
    scope = Scope("bench", corpus.name)
    waiting = sorted(corpus.questions, key=lambda q: q.num_earlier or len(corpus.documents))
    with tempfile.TemporaryDirectory(prefix="tenure-retrieval-") as folder, Store.open(Path(folder)) as store:
        num_kept = 0
        for number, question in enumerate(waiting):
            upto = question.num_earlier or len(corpus.documents)
            for document in corpus.documents[num_kept:upto]:
                store.memories.add(remembered(document, scope))
            num_kept = max(num_kept, upto)
            began = time.perf_counter()
            found = store.memories.search(question.text, scope, limit=NUM_FOUND)
            seconds = time.perf_counter() - began
            told(f"asking {corpus.name}", number + 1, len(waiting))
            yield Asked(corpus.name, question, tuple(memory.source_ids[0] for memory in found), seconds)


def remembered(document: Document, scope: Scope) -> Memory:
    """A document as a memory, with its day and speaker in the text."""
    day = time.strftime("[%d %B %Y] ", time.localtime(document.said_at)) if document.said_at is not None else ""
    speaker = f"{document.speaker}: " if document.speaker else ""
    at = document.said_at or 0.0
    text = f"{day}{speaker}{document.text}"
    return Memory(f"{scope.principal}/{document.id}", scope, MemoryKind.EVENT, text, (document.id,), at, at)


def summary(asked: Sequence[Asked]) -> dict[str, Any]:
    """Means over questions, recall by category, and how long a search took."""
    rows = [(one.ranked, one.question.gold) for one in asked]
    milliseconds = [1000 * one.seconds for one in asked]
    categories = sorted({one.question.category for one in asked})
    return {
        "num_questions": len(rows),
        "r5": mean(recall_at(*row, 5) for row in rows),
        "r10": mean(recall_at(*row, 10) for row in rows),
        "all10": mean(all_at(*row, 10) for row in rows),
        "ndcg10": mean(ndcg_at(*row, 10) for row in rows),
        "mrr": mean(reciprocal_rank(*row) for row in rows),
        "r10_by_category": {category: recall_of(asked, category) for category in categories},
        "search_p50_ms": median(milliseconds),
        "search_p95_ms": quantiles(milliseconds, n=20)[-1] if len(milliseconds) > 1 else milliseconds[0],
    }


def recall_of(asked: Sequence[Asked], category: str) -> float:
    """Mean recall among ten over a category's questions."""
    return mean(recall_at(one.ranked, one.question.gold, 10) for one in asked if one.question.category == category)


def locomo_headlines(asked: Sequence[Asked]) -> dict[str, float]:
    """As others report it: the mean over categories 1 to 4, and of all five categories' means; {} if one is missing."""
    if {one.question.category for one in asked} != set(LOCOMO_CATEGORIES.values()):
        return {}
    answerable = [one for one in asked if one.question.category != ADVERSARIAL]
    return {
        "locomo_r10": mean(recall_at(one.ranked, one.question.gold, 10) for one in answerable),
        "locomo_macro_r10": mean(recall_of(asked, category) for category in LOCOMO_CATEGORIES.values()),
        "locomo_multihop_r10": recall_of(asked, LOCOMO_CATEGORIES[1]),
    }
