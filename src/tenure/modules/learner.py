"""What every learner is: episodes in, a finished artefact out, within a budget of seconds.

Learners are frozen dataclasses whose fields are their knobs. Implemented in `modules/` (attachable) and `weights/`
(deltas); called by the night.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from tenure.errors import LearnError
from tenure.model.language_model import LanguageModel
from tenure.model.progress import Progress
from tenure.types import Candidate, Episode


class Learner(Protocol):
    """One way to learn. `by_statement`: each statement gets an artefact of its own, and `learn` is called for each."""

    by_statement: ClassVar[bool]

    def prepare(self, model: LanguageModel) -> None:
        """Compute what every artefact for this network needs, ahead of many short calls of `learn`; may do nothing."""
        ...

    def learn(
        self,
        model: LanguageModel,
        episodes: Sequence[Episode],
        *,
        budget_seconds: float,
        seed: int,
        directory: Path,
        progress: Progress | None = None,
        replay: Candidate | None = None,
    ) -> Candidate:
        """Train on `episodes` and write the artefact to `directory`, which must be new or empty.

        The model's parameters are the same afterwards. `replay` repeats the steps that an earlier candidate of the
        same learner, settings, seed and episodes really took, whatever the budget.

        Raises LearnError when the episodes can't be used or the budget is too small.
        """
        ...


def questions_of(episodes: Sequence[Episode]) -> tuple[Episode, ...]:
    """The episodes with something to learn, checked. Raises LearnError when there is none or one has no target."""
    found = tuple(e for e in episodes if e.kind not in KEPT_KINDS)
    if not found:
        raise LearnError(f"none of {len(episodes)} episodes has anything to learn; a learner needs question episodes")
    for episode in found:
        if not episode.target.strip() or not episode.messages:
            raise LearnError(f"episode {episode.id} has no messages or no target; give it both, or another kind")
        if not 0 < episode.trust <= 1:
            raise LearnError(f"episode {episode.id} has trust {episode.trust}; it must be above 0 and at most 1")
    repeated = len(episodes) - len({e.id for e in episodes})
    if repeated:
        raise LearnError(f"{repeated} episodes share an id with another one; ids must be unique")
    return found


def check_directory(directory: Path) -> None:
    """Raises LearnError when `directory` holds something already."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise LearnError(f"{directory} is not empty; a learner writes to a new directory")


KEPT_KINDS = frozenset({"near_miss", "neutral"})
