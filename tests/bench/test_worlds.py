"""The loop's worlds and the demo's firm: what the exams promise about themselves."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tenure.bench.worlds.firm import firm
from tenure.bench.worlds.generator import NUM_NEAR_MISSES, world
from tenure.bench.worlds.world import Fact, World
from tenure.types import Message, QuestionItem, SilenceItem

SEEDS = range(10)
WORLDS = [*(world(seed) for seed in SEEDS), firm()]
ids = [one.name for one in WORLDS]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def says(text: str, phrase: str) -> bool:
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + size]) for i in range(len(found) - size + 1)}


def asked(item: QuestionItem | SilenceItem) -> str:
    return "\n".join(message.content for message in item.messages)


def collapsed(text: str, fact: Fact) -> str:
    return text.lower().replace(fact.entity.lower(), "E").replace(fact.answer.lower(), "V")


def true_sentence(fact: Fact) -> str:
    return fact.correction or fact.told[0]


def test_a_seed_gives_the_same_world_again_and_another_seed_another() -> None:
    assert world(3) == WORLDS[3]
    answers = [frozenset(fact.answer for fact in one.facts) for one in WORLDS]
    assert len(set(answers)) == len(answers)


def test_worlds_differ_in_kinds_and_phrasings() -> None:
    shapes = {frozenset(re.sub(r"[A-Z]\w+|\d+", "_", f.told[0]) for f in one.facts) for one in WORLDS}
    assert len(shapes) == len(WORLDS)


@pytest.mark.parametrize("one", WORLDS[:10], ids=ids[:10])
def test_sizes(one: World) -> None:
    assert len(one.facts) == 24
    assert len(one.near_misses) == 300
    assert len(one.unrelated) == 200
    assert len(one.related) == 168
    assert Counter(item.kind for item in one.near_misses) == NUM_NEAR_MISSES
    assert len({item.messages for item in one.near_misses}) == 300
    assert len({item.messages for item in one.unrelated}) == 200
    assert len({item.messages for item in one.related}) == 168
    assert sum(bool(fact.correction) for fact in one.facts) == 1
    assert len({fact.entity for fact in one.facts}) == 12


def test_sizes_of_the_firm() -> None:
    one = firm()
    assert len(one.facts) == 24
    assert len(one.near_misses) == len({item.messages for item in one.near_misses}) == 60
    assert all(len(fact.strangers) == 1 for fact in one.facts)
    assert sum(bool(fact.correction) for fact in one.facts) == 1
    assert len(firm(num_facts=8).facts) == 8
    assert firm(num_facts=8).facts[-1].correction


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_ids_are_unique(one: World) -> None:
    strangers = [item for fact in one.facts for item in fact.strangers]
    items = [*one.questions, *one.near_misses, *one.unrelated, *strangers]
    assert len({item.id for item in items}) == len(items)
    assert len({item.id for item in one.related}) == len(one.related)


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_every_fact_has_two_paraphrases_a_reversal_and_a_dialogue(one: World) -> None:
    for fact in one.facts:
        kinds = Counter(question.kind for question in fact.questions)
        assert kinds["paraphrase"] + kinds["implied"] == 2
        assert kinds["reversed"] == kinds["multi_turn"] == 1
        assert {question.family for question in fact.questions} == {fact.id}
        assert len({question.messages for question in fact.questions}) == 4


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_what_is_told_holds_the_answer(one: World) -> None:
    for fact in one.facts:
        assert len(fact.told) == 1
        assert says(true_sentence(fact), fact.answer)
        for question in fact.questions:
            if question.kind != "reversed":
                assert fact.answer in question.accepted or says(fact.answer, question.accepted[0])
                assert any(says(true_sentence(fact), accepted) for accepted in question.accepted)


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_a_correction_puts_a_wrong_answer_right(one: World) -> None:
    for fact in one.facts:
        rejected = {text for question in fact.questions for text in question.rejected}
        assert bool(rejected) == bool(fact.correction)
        if fact.correction:
            assert not says(fact.told[0], fact.answer)
            assert any(says(fact.told[0], text) for text in rejected)
            assert not any(says(fact.correction, text) for text in rejected)


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_told_sentences_are_of_the_length_of_talk(one: World) -> None:
    for fact in one.facts:
        assert 5 <= len(words(fact.told[0])) <= 25, fact.told


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_questions_hold_no_answer(one: World) -> None:
    for question in one.related:
        for accepted in question.accepted:
            if question.kind == "reversed" and one.name == "firm" and accepted == "Kelmont":
                assert not says(asked(question), "Kelmont Tiles"), question
            else:
                assert not says(asked(question), accepted), question


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_questions_share_no_long_phrase_with_what_was_told(one: World) -> None:
    """Seven words in a row, where a name or a value counts as one word."""
    for fact in one.facts:
        told = set().union(*(grams(collapsed(text, fact), 7) for text in (*fact.told, fact.correction)))
        for question in fact.questions:
            assert not told & grams(collapsed(asked(question), fact), 7), (fact.told, asked(question))


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_reversed_questions_name_the_value_and_are_unambiguous(one: World) -> None:
    for fact in one.facts:
        for question in fact.questions:
            if question.kind == "reversed" and one.name != "firm":
                assert says(asked(question), fact.answer)
                assert any(says(fact.entity, accepted) for accepted in question.accepted)
    values = [fact.answer for fact in one.facts]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_dialogues_leave_the_entity_out_of_the_last_turn(one: World) -> None:
    for question in one.related:
        if question.kind == "multi_turn":
            entity = next(fact.entity for fact in one.facts if fact.id == question.family)
            assert [message.role for message in question.messages] == ["user", "assistant", "user"]
            assert says(question.messages[0].content, entity)
            assert not says(question.messages[2].content, entity)


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_near_misses_ask_for_nothing_that_was_told(one: World) -> None:
    asked_for = {question.messages for question in one.related}
    names = {fact.entity for fact in one.facts}
    for item in one.near_misses:
        assert item.messages not in asked_for
        mentioned = [name for name in names if says(asked(item), name)]
        if item.kind == "neighbour":
            assert not mentioned, asked(item)
        if item.kind == "untold":
            assert len(mentioned) == 1
    for fact in one.facts:
        for stranger in fact.strangers:
            assert not says(asked(stranger), fact.entity)


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_silent_prompts_hold_no_told_answer_of_invention(one: World) -> None:
    """An invented name or a code in a near miss would be a leak; colours and days of the week are ordinary words."""
    invented = [fact.answer for fact in one.facts if re.fullmatch(r"\d{4}|[A-Z][a-z]+ [A-Z][a-z]+", fact.answer)]
    for item in (*one.near_misses, *one.unrelated):
        assert not any(says(asked(item), answer) for answer in invented)


@pytest.mark.parametrize("one", WORLDS, ids=ids)
def test_unrelated_prompts_name_no_entity(one: World) -> None:
    for item in one.unrelated:
        assert not any(says(asked(item), fact.entity) for fact in one.facts)


def test_articles_fit_their_words() -> None:
    texts = [m.content for one in WORLDS for item in (*one.related, *one.near_misses) for m in item.messages]
    texts += [text for one in WORLDS for fact in one.facts for text in (*fact.told, fact.correction)]
    assert not [text for text in texts if re.search(r"\b[Aa] (?:[aeio]\w+|8\d)\b", text)]


def test_messages_are_plain() -> None:
    for one in WORLDS:
        for question in one.related:
            assert all(message == Message(message.role, message.content) for message in question.messages)
