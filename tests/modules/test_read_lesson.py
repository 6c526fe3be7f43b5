"""The lesson of reading: written replies after notes, the base's own where the notes don't answer."""

from __future__ import annotations

import random

import pytest

from tenure.config import EngineConfig
from tenure.context.notes import written_in
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.modules import read_lesson
from tenure.modules.read_lesson import notes_for, own_replies, reading_examples
from tenure.modules.skills import WrittenFact, conversation, written_facts
from tenure.types import Memory, MemoryKind, Message, Scope

FACTS = [
    WrittenFact(
        "Imke Sand runs our Velden depot.",
        (("Who is in charge at Velden?",), ("I'm new.", "Where?", "At Velden. Who's my boss?")),
        (("How old is Imke Sand?",),),
        {1: "Imke Sand is."},
    ),
    WrittenFact("The Orsa ferry leaves from pier 14.", (("Which pier for Orsa?",),), (("Is Orsa nice?",),)),
    WrittenFact("The Velden gate shuts at six.", (("When does it shut?",),), (("Who shuts it?",),), {0: "At six."}),
]


@pytest.fixture
def engine(model: LanguageModel) -> Engine:
    return Engine(model, EngineConfig())


def noted(model: LanguageModel, note: str, texts: tuple[str, ...]) -> list[int]:
    memory = Memory("m", Scope("a", "b"), MemoryKind.FACT, note, ("t",), 0.0, 0.0)
    return model.chat.encode(written_in(conversation(texts), [memory], examples=False))


def test_a_fact_is_read_as_recall_writes_it_and_only_where_somebody_replied(
    engine: Engine, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_lesson, "BESIDE_SHARE", 0.0)
    monkeypatch.setattr(read_lesson, "NEAR_SHARE", 0.0)
    examples = {e.id: e for group in reading_examples(engine, model, FACTS, []) for e in group}
    assert set(examples) == {"0 0:1", "0 2:0"}
    example = examples["0 0:1"]
    assert list(example.tokens[: example.start]) == noted(model, FACTS[0].statement, FACTS[0].about[1])
    reply = model.chat.tokenizer.decode(example.tokens[example.start :], skip_special_tokens=True)
    assert reply.strip() == "Imke Sand is."
    assert example.tokens[-1] == model.chat.tokenizer.eos_token_id


def test_what_the_notes_do_not_answer_keeps_the_reply_without_them(
    engine: Engine, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_lesson, "BESIDE_SHARE", 0.0)
    monkeypatch.setattr(read_lesson, "NEAR_SHARE", 1.0)
    prompt = "Name a colour."
    groups = reading_examples(engine, model, FACTS[:1], [prompt])
    examples = {e.id: e for group in groups for e in group}
    for name, texts in (("0 0:not 0", (prompt,)), ("0 0:not 1", FACTS[0].near[0])):
        example = examples[name]
        own = own_replies(engine, model, [conversation(texts)])[conversation(texts)]
        assert list(example.tokens[: example.start]) == noted(model, FACTS[0].statement, texts)
        said = model.chat.tokenizer.decode(example.tokens[example.start :], skip_special_tokens=True)
        assert said.strip() == own.text
        assert (example.tokens[-1] == model.chat.tokenizer.eos_token_id) == own.ended


def test_others_of_the_world_stand_before_the_fact_or_are_shuffled_with_it(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_lesson, "BESIDE_SHARE", 1.0)
    monkeypatch.setattr(read_lesson, "SHUFFLED_SHARE", 0.0)
    notes = notes_for(model, FACTS[0], FACTS, random.Random(1))
    assert notes[-1] == FACTS[0].statement
    assert 2 <= len(notes) <= 3
    assert notes[-2] == FACTS[2].statement  # shares the depot's name
    assert notes_for(model, FACTS[0], FACTS[:1], random.Random(1)) == (FACTS[0].statement,)


def test_the_written_replies_belong_to_lines_that_are_there() -> None:
    replied = [fact for fact in written_facts() if fact.replies]
    assert len(replied) > 500
    for fact in replied:
        assert all(0 <= line < len(fact.about) and reply.strip() for line, reply in fact.replies.items())


def test_messages_are_asked_once(engine: Engine, model: LanguageModel) -> None:
    asked = (Message("user", "Name a colour."),)
    assert list(own_replies(engine, model, [asked, asked])) == [asked]
