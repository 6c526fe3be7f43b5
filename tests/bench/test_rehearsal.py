"""What developers may read, and what skills are taught on, shares nothing with the exam."""

from __future__ import annotations

import pytest

from tenure.bench.rehearsal import WORLDS, development_world
from tenure.bench.worlds.firm import firm
from tenure.bench.worlds.generator import world
from tenure.modules.skills import conversation, written_facts

EXAM = [*(world(seed) for seed in range(10)), firm()]


@pytest.mark.parametrize("name", WORLDS)
def test_development_worlds_are_whole(name: str) -> None:
    development = development_world(name)
    assert len(development.facts) == 24 and len(development.near_misses) == 240
    assert sum(bool(fact.correction) for fact in development.facts) == 3
    assert len({question.messages for question in development.questions}) == 120
    for question in development.questions:
        asked = " ".join(message.content for message in question.messages).lower()
        assert not any(f" {accepted.lower()} " in f" {asked} " for accepted in question.accepted), question.id


def test_nothing_of_the_exam_is_taught_or_rehearsed() -> None:
    asked = {item.messages for one in EXAM for item in (*one.questions, *one.near_misses)}
    entities = {fact.entity.lower() for one in EXAM for fact in one.facts}
    facts = [*written_facts(), *written_facts("calibration.jsonl")]
    taught = {conversation(texts) for fact in facts for texts in (*fact.about, *fact.near)}
    taught |= {q.messages for name in WORLDS for q in development_world(name).questions}
    assert not asked & taught
    statements = [fact.statement.lower() for fact in facts]
    assert not [entity for entity in entities for statement in statements if entity in statement]
