"""What the gates see of a model: somebody who answers, scores and drifts, and says which weights did it.

Lives here: the protocol and its three kinds of answer. Knows no engine, module or version manifest: the runtime gives
an Answerer per version. Called by `examination.examine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tenure.types import ChoiceItem, Item, Message

Prompt = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """A greedy answer to one prompt, and the effective digest of what gave it."""

    text: str
    effective: str


@dataclass(frozen=True, slots=True)
class Scored:
    """Natural-log likelihood of each choice as a continuation of the item's prompt, in the order of its choices."""

    log_likelihoods: tuple[float, ...]
    effective: str


@dataclass(frozen=True, slots=True)
class Drifted:
    """Mean KL(base || this) in nats a token over the base's own greedy answer to one prompt."""

    kl: float
    effective: str


class Answerer(Protocol):
    """One version, as it would be served: routed, closed book, greedy, at one fixed numeric setting.

    `digest` names the version; `precision` is what it is served in. `forced=True` puts a module on for every request:
    the nearest, however far the request is from what it learned. Answers come in the order of the questions.
    """

    @property
    def digest(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def route(self, items: Sequence[Item], *, forced: bool = False) -> list[str]:
        """The effective digest that would answer each item, without answering it (the router decides before prefill).

        With it the exam asks nothing twice: where the router abstains, the base's answer is the version's answer.
        """
        ...

    def answer(self, prompts: Sequence[Prompt], *, forced: bool = False) -> list[Answered]: ...

    def score(self, items: Sequence[ChoiceItem], *, forced: bool = False) -> list[Scored]: ...

    def drift(self, prompts: Sequence[Prompt]) -> list[Drifted]: ...
