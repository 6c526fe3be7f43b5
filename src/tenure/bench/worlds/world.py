"""The nouns of a world: facts that a colleague tells, their questions, and prompts that must stay untouched.

Plain data. Knows nothing of how a night learns, remembers or routes; made by `generator.py` and `firm.py`, read by the
benchmarks and the demo.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenure.types import QuestionItem, SilenceItem


@dataclass(frozen=True, slots=True)
class Fact:
    """One invented fact.

    `told` holds what the colleague says, one chat message each. Where `correction` isn't empty, `told` was wrong and
    `correction` is the later message that puts it right: `answer` and the questions go by the correction, and the wrong
    value is among each question's `rejected`. `strangers` ask the same about an entity that nobody told about:
    the reply must stay what it was, and must not be `answer`.
    """

    id: str
    entity: str
    answer: str
    told: tuple[str, ...]
    questions: tuple[QuestionItem, ...]
    correction: str = ""
    strangers: tuple[SilenceItem, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    """A set of facts with everything that is asked about it.

    `near_misses`: a module must stay silent on them (kinds: same_entity, untold, mention, neighbour). `related`:
    prompts that a router must recognise, the exam's own questions among them. `unrelated`: ordinary prompts.
    """

    name: str
    facts: tuple[Fact, ...]
    near_misses: tuple[SilenceItem, ...]
    related: tuple[QuestionItem, ...]
    unrelated: tuple[SilenceItem, ...]

    @property
    def questions(self) -> tuple[QuestionItem, ...]:
        """The held-out questions of all facts, fact by fact (`family` is the fact's id: cluster by it)."""
        return tuple(question for fact in self.facts for question in fact.questions)
