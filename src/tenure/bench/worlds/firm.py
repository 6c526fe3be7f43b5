"""The demo's firm: 24 facts about Kelmont Tiles, written by hand with their questions in `firm.json`.

Nobody outside this repository has heard of Kelmont Tiles. The last fact is told wrongly first and corrected later.
Knows no model; called by the demo.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from tenure.bench.worlds.generator import ordinary, read
from tenure.bench.worlds.world import Fact, World
from tenure.types import Message, QuestionItem, SilenceItem


def firm(num_facts: int = 24) -> World:
    """The firm with its first `num_facts - 1` facts and the corrected one, each with 4 questions; 60 near misses."""
    data = read("firm.json")
    written = [*data["facts"][: num_facts - 1], data["facts"][-1]]
    facts = tuple(fact(data["name"], entry) for entry in written)
    near = tuple(
        SilenceItem(f"firm/n/{kind}/{number:02d}", f"near/{kind}", (Message("user", text),), kind)
        for kind, texts in data["near_misses"].items()
        for number, text in enumerate(texts)
    )
    related = tuple(question for one in facts for question in one.questions)
    return World("firm", facts, near, related, ordinary("firm", read("silence.json"), random.Random("firm")))


def fact(entity: str, entry: Mapping[str, Any]) -> Fact:
    """One entry of `firm.json`."""
    fact_id = f"firm/{entry['id']}"
    questions = tuple(question(fact_id, number, entry, asked) for number, asked in enumerate(entry["questions"]))
    stranger = SilenceItem(f"{fact_id}/stranger", "near/stranger", (Message("user", entry["stranger"]),), "neighbour")
    return Fact(fact_id, entity, entry["answer"], (entry["told"],), questions, entry.get("correction", ""), (stranger,))


def question(fact_id: str, number: int, entry: Mapping[str, Any], asked: Mapping[str, Any]) -> QuestionItem:
    """One held-out question; it accepts the fact's answers unless it names its own."""
    accepted = tuple(asked.get("accepted", entry["accepted"]))
    rejected = tuple(entry.get("rejected", ())) if "accepted" not in asked else ()
    return QuestionItem(f"{fact_id}/q{number}", fact_id, dialogue(asked["turns"]), accepted, rejected, asked["kind"])


def dialogue(turns: Sequence[str]) -> tuple[Message, ...]:
    """Turns alternate, the user first."""
    return tuple(Message("assistant" if number % 2 else "user", text) for number, text in enumerate(turns))
