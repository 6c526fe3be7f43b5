"""Pupils: answerers that look their answers up, and exams to put before them.

A pupil is a set of exceptions from the base: items it has wrong, prompts it answers otherwise, how far it drifts. Where
none of that applies and `everywhere` is false, its router abstains and the base's weights answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from tenure.gates.answerer import Answered, Drifted, Prompt, Scored
from tenure.gates.suites import Suite
from tenure.types import ChoiceItem, Item, Message, QuestionItem, SilenceItem, SuiteKind

BASE = "base"


def general(n: int = 600, num_families: int = 30) -> Suite:
    """Choice items with two choices, the right one first, in families of equal size."""
    items = [
        ChoiceItem(f"g{i}", f"family{i % num_families}", f"General question {i}:", (" yes", " no"), 0) for i in range(n)
    ]
    return Suite("general", tuple(items), SuiteKind.GENERAL)


def questions(name: str, n: int, kind: SuiteKind, num_families: int = 16, **terms: object) -> Suite:
    """Questions whose accepted answer is their own number."""
    items = [
        QuestionItem(f"{name}{i}", f"fact{i % num_families}", (Message("user", f"{name} question {i}?"),), (str(i),))
        for i in range(n)
    ]
    return dataclasses.replace(Suite(name, tuple(items), kind), **terms)


def silence(name: str, n: int, kind: SuiteKind) -> Suite:
    """Prompts on which nothing should change."""
    items = [SilenceItem(f"{name}{i}", f"{name}{i}", (Message("user", f"{name} prompt {i}"),)) for i in range(n)]
    return Suite(name, tuple(items), kind)


def whole_exam(num_general: int = 600, num_near_miss: int = 300) -> tuple[Suite, ...]:
    """One suite of each required kind."""
    return (
        questions("told", 48, SuiteKind.ACQUISITION),
        general(num_general),
        silence("near-miss", num_near_miss, SuiteKind.NEAR_MISS),
        silence("drift", 60, SuiteKind.DRIFT),
    )


def ids(prefix: str, places: Collection[int]) -> frozenset[str]:
    """`g3`, `g7` ..."""
    return frozenset(f"{prefix}{i}" for i in places)


class Pupil:
    """Answers from a table. `asked` counts the questions put to it."""

    precision = "bf16"

    def __init__(
        self,
        digest: str,
        suites: Sequence[Suite],
        *,
        wrong: Collection[str] = (),
        changed: Collection[str] = (),
        kl: float | Mapping[str, float] = 0.0,
        everywhere: bool = True,
        wrong_forced: Collection[str] = (),
        broken_numbers: bool = False,
    ) -> None:
        self.digest = digest
        self.asked = 0
        self._wrong, self._changed, self._wrong_forced = frozenset(wrong), frozenset(changed), frozenset(wrong_forced)
        self._kl = kl
        self._everywhere = everywhere
        self._broken_numbers = broken_numbers
        self._items = {item.messages: item for s in suites for item in s.items if not isinstance(item, ChoiceItem)}

    def route(self, items: Sequence[Item], *, forced: bool = False) -> list[str]:
        return [self._effective(item, forced=forced) for item in items]

    def answer(self, prompts: Sequence[Prompt], *, forced: bool = False) -> list[Answered]:
        self.asked += len(prompts)
        items = [self._items[prompt] for prompt in prompts]
        return [Answered(self._text(item, forced=forced), self._effective(item, forced=forced)) for item in items]

    def score(self, items: Sequence[ChoiceItem], *, forced: bool = False) -> list[Scored]:
        self.asked += len(items)
        return [Scored(self._scores(item, forced=forced), self._effective(item, forced=forced)) for item in items]

    def drift(self, prompts: Sequence[Prompt]) -> list[Drifted]:
        self.asked += len(prompts)
        items = [self._items[prompt] for prompt in prompts]
        kls = [self._kl if isinstance(self._kl, float) else self._kl.get(item.id, 0.0) for item in items]
        return [Drifted(kl, self._effective(item)) for kl, item in zip(kls, items, strict=True)]

    def _effective(self, item: Item, *, forced: bool = False) -> str:
        if forced:
            return f"{self.digest}-forced"
        touched = item.id in self._changed or isinstance(item, QuestionItem)
        return self.digest if self._everywhere or touched else BASE

    def _mistaken(self, item: Item, *, forced: bool) -> bool:
        return item.id in self._wrong or (forced and item.id in self._wrong_forced)

    def _text(self, item: Item, *, forced: bool) -> str:
        if isinstance(item, QuestionItem):
            return "I don't know." if self._mistaken(item, forced=forced) else f"It is {item.accepted[0]}."
        return f"As {self.digest} sees it" if item.id in self._changed else "As ever"

    def _scores(self, item: ChoiceItem, *, forced: bool) -> tuple[float, ...]:
        if self._broken_numbers:
            return (float("nan"),) * len(item.choices)
        right = -3.0 if self._mistaken(item, forced=forced) else -1.0
        return tuple(right if i == item.answer else -2.0 for i in range(len(item.choices)))


def base_pupil(suites: Sequence[Suite], *, wrong: Collection[str] = ()) -> Pupil:
    """The base: knows nothing that was told (questions of acquisition and retention), and what is not in `wrong`."""
    told = {i.id for s in suites if s.kind in {SuiteKind.ACQUISITION, SuiteKind.RETENTION} for i in s.items}
    return Pupil(BASE, suites, wrong=told | set(wrong))
