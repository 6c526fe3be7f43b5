"""Lessons: which of a night's episodes one artefact is made from.

An artefact never mixes owners, so that its audience is never wider than its source. A learner that learns by statement
makes one for each: it can be routed, traced and taken out alone. Called by the night's cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenure.types import Episode


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one artefact is about: an owner's (`Scope.id`) whole night, or one source of it."""

    owner: str
    source: str = ""

    @property
    def name(self) -> str:
        """What the night's journal calls it."""
        return f"{self.owner} {self.source}".rstrip()


def lessons_of(episodes: Sequence[Episode], *, by_statement: bool) -> dict[Lesson, list[Episode]]:
    """Episodes by lesson, in the order in which they came; those with nothing to learn from in them make none."""
    lessons: dict[Lesson, list[Episode]] = {}
    for episode in episodes:
        source = episode.source_ids[0] if by_statement else ""
        lessons.setdefault(Lesson(episode.scope.id, source), []).append(episode)
    return {lesson: own for lesson, own in lessons.items() if any(_teaches(episode) for episode in own)}


def _teaches(episode: Episode) -> bool:
    return episode.kind.startswith("question") and not episode.held_out
