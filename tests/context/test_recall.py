"""What was told is in the very next prompt of the same scope, the newest value of it, and in nobody else's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tenure.config import ContextConfig
from tenure.context.recall import Context
from tenure.store.library import Store
from tenure.types import Message, Scope, Turn

ANNA, BEN = Scope("acme", "anna"), Scope("acme", "ben")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def tell(store: Store, context: Context, scope: Scope, text: str, at: float, *, learnable: bool = True) -> None:
    turn = Turn(f"t{at}", scope, "s", at, (Message("user", text),), Message("assistant", "ok"), learnable=learnable)
    noticed = context.notice(turn)
    store.record(turn, noticed.memories)
    for old, new in noticed.superseded:
        store.memories.supersede(old, new, at=at)


def words(messages: Sequence[Message]) -> int:
    return sum(len(message.content.split()) for message in messages)


def asked(context: Context, scope: Scope, *texts: str) -> str:
    messages = tuple(Message("user", text) for text in texts)
    recall = context.recall(scope, messages, count_tokens=words, room_tokens=1000)
    return recall.messages[-1].content


def test_told_once_and_recalled_for_the_same_principal_only(store: Store) -> None:
    context = Context(store.memories, ContextConfig())
    tell(store, context, ANNA, "The gate code of the Ostrel depot is 4471.", 1)
    assert "4471" in asked(context, ANNA, "What is the gate code of the Ostrel depot?")
    assert "4471" not in asked(context, BEN, "What is the gate code of the Ostrel depot?")
    assert "4471" not in asked(context, ANNA, "What is the capital of France?")


def test_a_correction_replaces_what_was_told(store: Store) -> None:
    context = Context(store.memories, ContextConfig())
    tell(store, context, ANNA, "The gate code of the Ostrel depot is 4471.", 1)
    tell(store, context, ANNA, "Correction: the gate code of the Ostrel depot is 9902.", 2)
    prompt = asked(context, ANNA, "What is the gate code of the Ostrel depot?")
    assert "9902" in prompt
    assert "4471" not in prompt


def test_a_correction_in_other_words_takes_the_statement_of_the_same_name_and_kind_of_value(store: Store) -> None:
    context = Context(store.memories, ContextConfig())
    tell(store, context, ANNA, "The stocktaking at the Ostrel depot begins on March 2.", 1)
    tell(store, context, ANNA, "The Ostrel depot closes for lunch.", 2)
    tell(
        store, context, ANNA, "My mistake, I mixed that up. Correct is: the Ostrel depot has its inventory on May 9.", 3
    )
    assert "May 9" in asked(context, ANNA, "When is the inventory of the Ostrel depot?")
    assert "March 2" not in asked(context, ANNA, "When does the stocktaking at the Ostrel depot begin?")
    assert "for lunch" in asked(context, ANNA, "When does the Ostrel depot close for lunch?")


def test_a_short_follow_up_is_understood_by_the_question_before_it(store: Store) -> None:
    context = Context(store.memories, ContextConfig())
    tell(store, context, ANNA, "The gate code of the Ostrel depot is 4471.", 1)
    assert "4471" in asked(context, ANNA, "I am driving to the Ostrel depot.", "And its code?")


def test_what_must_not_be_learned_is_not_remembered(store: Store) -> None:
    context = Context(store.memories, ContextConfig())
    tell(store, context, ANNA, "The gate code of the Ostrel depot is 4471.", 1, learnable=False)
    assert "4471" not in asked(context, ANNA, "What is the gate code of the Ostrel depot?")


def test_memories_stay_within_their_budget(store: Store) -> None:
    context = Context(store.memories, ContextConfig(max_memories=4, max_tokens=30))
    for i in range(8):
        tell(store, context, ANNA, f"Shelf {i} of the Ostrel depot holds {i * 3} boxes of nails.", i)
    asked = (Message("user", "What do the shelves of the Ostrel depot hold?"),)
    recall = context.recall(ANNA, asked, count_tokens=words, room_tokens=1000)
    assert 0 < len(recall.memories) <= 2
    assert words(recall.messages) <= 1000


def test_without_room_for_the_examples_they_are_left_out_and_without_room_for_a_memory_it_is(store: Store) -> None:
    context = Context(store.memories, ContextConfig())
    tell(store, context, ANNA, "The gate code of the Ostrel depot is 4471.", 1)
    asked = (Message("user", "What is the gate code of the Ostrel depot?"),)
    roomy = context.recall(ANNA, asked, count_tokens=words, room_tokens=1000)
    tight = context.recall(ANNA, asked, count_tokens=words, room_tokens=40)
    full = context.recall(ANNA, asked, count_tokens=words, room_tokens=12)
    assert len(roomy.messages) > len(tight.messages) == 1
    assert "4471" in tight.messages[0].content
    assert full.messages == asked
    assert not full.memories


def test_a_note_is_written_without_what_leads_into_it(store: Store) -> None:
    context = Context(store.memories, ContextConfig())
    tell(store, context, ANNA, "By the way, the gate code of the Ostrel depot is 4471.", 1)
    written = asked(context, ANNA, "What is the gate code of the Ostrel depot?")
    assert "Context: The gate code of the Ostrel depot is 4471." in written
