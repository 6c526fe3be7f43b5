"""Near-miss prompts: close to what was told, never the same, for anybody's night."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.errors import GateError
from tenure.gates.neighbours import names_in, near_misses
from tenure.gates.told import asked_of, distance, kind_of, likeness
from tenure.types import SilenceItem

FACTS = (
    "The night porter at Harrow Mill is Dunstan Ames.",
    "Our invoice code for Belmore Dairy is KX-4471.",
    "The ferry to Skerry Point leaves at 06:40 from pier 9.",
    "The espresso machine needs descaling every nine days.",
)
ENTITIES = ("Harrow Mill", "Dunstan Ames", "Belmore Dairy", "KX-4471", "Skerry Point", "espresso machine")
KINDS = ("same_entity", "untold", "same_kind", "neighbour", "elsewhere", "unrelated")
WORDING = json.loads((files("tenure.gates") / "items" / "near_miss.json").read_text("utf8"))
TELLING = {
    "Harrow Mill opens at nine.": r"\bopen|hours",
    "Harrow Mill belongs to the Penn family.": r"\bown|belong",
    "Dunstan Ames is 54 years old.": r"\bold\b|\bage\b",
    "Dunstan Ames can be rung on 555 0182.": r"\brung\b|phone",
    "The espresso machine cost 900 pounds.": r"\bcost|price|\bpay\b|\bpaid\b",
    "The espresso machine is red.": r"colour",
    "Belmore Dairy was founded by Ada Crane.": r"found",
    "They chose Skerry Point because of its view.": r"\bwhy\b|reason",
}


def of_kind(kind: str, seeds: int, facts: tuple[str, ...] = FACTS) -> list[SilenceItem]:
    return [i for seed in range(seeds) for i in near_misses(facts, ENTITIES, seed=seed) if i.kind == kind]


def said(item: SilenceItem) -> str:
    return " ".join(m.content for m in item.messages if m.role == "user")


def prompt(item: SilenceItem) -> str:
    return item.messages[-1].content


def test_300_different_prompts_in_equal_shares() -> None:
    items = near_misses(FACTS, ENTITIES, seed=1)
    assert len({prompt(i) for i in items}) == len({i.id for i in items}) == 300
    assert Counter(i.kind for i in items) == dict.fromkeys(KINDS, 50)
    assert len({i.family for i in items}) >= 40
    assert 20 <= sum(len(i.messages) == 3 for i in items) <= 90
    assert all(i.messages[-1].role == "user" and "{" not in prompt(i) for i in items)


def test_a_seed_repeats_itself_and_another_does_not() -> None:
    assert near_misses(FACTS, ENTITIES, seed=4) == near_misses(FACTS, ENTITIES, seed=4)
    assert near_misses(FACTS, ENTITIES, seed=4) != near_misses(FACTS, ENTITIES, seed=5)


def test_prompts_about_a_told_name_hold_it_and_others_hold_none() -> None:
    for item in near_misses(FACTS, ENTITIES, seed=2):
        named = any(entity.lower() in said(item).lower() for entity in ENTITIES)
        assert named == (item.kind in {"same_entity", "untold"}), said(item)


def test_prompts_about_a_told_name_do_not_tell_what_was_told() -> None:
    told = ("night porter", "invoice code", "06:40", "pier 9", "descaling")
    for item in near_misses(FACTS, ENTITIES, seed=3):
        if item.kind in {"same_entity", "untold"}:
            assert not any(words in prompt(item) for words in told)


def test_neighbours_ask_for_the_told_matter_of_another() -> None:
    neighbours = [prompt(i) for i in near_misses(FACTS, ENTITIES, seed=2) if i.kind == "neighbour"]
    for matter in ("night porter at", "invoice code for", "The ferry to", "needs descaling"):
        assert sum(matter.lower() in text.lower() for text in neighbours) >= 2, matter
    assert any("Mill" in text and "Harrow" not in text for text in neighbours), "none shares the last word"


def test_what_is_untold_is_asked_of_told_names_by_what_suits_them() -> None:
    asked = [said(i) for i in of_kind("untold", 4)]
    for name, suiting, unfit in (
        ("Dunstan Ames", r"birthday|marri|child|studied|shoe", r"floors|warranty|turnover|admission"),
        ("Harrow Mill", r"storeys|floors|wheelchair|dogs|admission|heat", r"birthday|married|salary|warranty"),
        ("Belmore Dairy", r"founde|rival|turn|logo|employ", r"birthday|weigh|warranty"),
        ("espresso machine", r"warranty|weigh|heavy|made of|colour|cost", r"birthday|married|turnover|storeys"),
    ):
        about = " ".join(text for text in asked if name in text)
        assert re.search(suiting, about), name
        assert not re.search(unfit, about), name


def test_untold_attributes_are_asked_as_people_ask() -> None:
    items = of_kind("untold", 2)
    alone = [prompt(i) for i in items if len(i.messages) == 1]
    assert sum(not text.endswith((".", "?")) for text in alone) >= 3, "telegrams"
    assert sum(text.startswith("I was wondering") or "want" in text or "form" in text for text in alone) >= 3, (
        "indirect"
    )
    assert sum("please" in text or "kind" in text or "trouble" in text for text in alone) >= 3, "polite"
    assert sum(not any(e in prompt(i) for e in ENTITIES) for i in items) >= 5, "the second turn leaves the name out"


@pytest.mark.parametrize(("fact", "words"), TELLING.items())
def test_an_attribute_that_a_fact_tells_is_not_untold(fact: str, words: str) -> None:
    plain = " ".join(said(i) for i in of_kind("untold", 4))
    assert re.search(words, plain, re.IGNORECASE), "the test's words are never asked"
    for item in of_kind("untold", 4, (*FACTS, fact)):
        assert not re.search(words, said(item), re.IGNORECASE), said(item)


def test_what_many_facts_tell_of_others_is_still_untold_of_a_name() -> None:
    others = [
        "The reason, the history, the reputation, the name, the source, the plan, the trouble, a photo, a spare.",
        "Its expiry is known: who issued it never shared it.",
    ]
    facts = ["Harrow Mill and Skerry Point: " + text for text in others] + ["The code for the door is KX-4471."]
    items = near_misses(facts, ("Harrow Mill", "Skerry Point", "KX-4471"), seed=1)
    assert any(i.kind == "untold" and "KX-4471" in said(i) for i in items)


def test_every_attribute_is_dropped_by_its_own_words() -> None:
    for name, spec in WORDING["untold"]["attributes"].items():
        told = f"Harrow Mill: {spec['topic']}."
        asked = near_misses((told,), ("Harrow Mill",), seed=1, n=120)
        assert f"untold/{name}" not in {i.family for i in asked}


def test_same_kind_asks_a_told_sentence_in_its_own_words_of_an_invented_name() -> None:
    items = of_kind("same_kind", 3)
    known = " ".join(FACTS).lower()
    for item in items:
        text = said(item)
        assert re.search(r"night porter|invoice code|the ferry to|needs? descaling", text), text
        assert not re.search(r"06:40|pier 9|nine days|Dunstan Ames", text), "it tells the answer"
        assert not any(e.lower() in text.lower() for e in ENTITIES)
    mills = {m for i in items for m in re.findall(r"porter at (\w+ \w+)", said(i))}
    assert mills and not any(mill.lower() in known for mill in mills)
    assert sum(mill.endswith(" Mill") and mill[0] != "H" for mill in mills) >= 3, "another of the pattern"
    assert sum(mill.split()[0] not in WORDING["likenesses"]["proper"] for mill in mills) >= 3, "wholly other"
    who = near_misses(["Otto Brandt lives in Leeds."], ["Otto Brandt"], seed=1)
    firsts = {m for i in who if i.kind == "same_kind" for m in re.findall(r"(\w+) Brandt", said(i))}
    assert len(firsts - {"Otto"}) >= 5, "other first names"
    assert not any("Leeds" in said(i) for i in who if i.kind == "same_kind")


@pytest.mark.parametrize("entities", [ENTITIES, ()])
def test_no_same_kind_name_is_within_edit_distance_2_of_a_told_name(entities: tuple[str, ...]) -> None:
    facts = (*FACTS, "Line 7 is late.", "The desk of Bo Penn is in room T-12.")
    names = (*ENTITIES, "Line 7", "Bo Penn", "T-12")
    items = [i for seed in range(6) for i in near_misses(facts, entities and names, seed=seed) if i.kind == "same_kind"]
    assert len(items) == 6 * 50
    for item in items:
        words = [word.strip(".,?!:") for word in said(item).lower().split()]
        for name in names:
            size = len(name.split())
            for at in range(len(words) - size + 1):
                assert distance(" ".join(words[at : at + size]), name.lower()) > 2, (name, said(item))


@pytest.mark.parametrize(
    ("name", "kind", "look"),
    [
        ("Harrow Mill", "place", r"[A-Z][a-z]{4,7} Mill"),
        ("Dunstan Ames", "person", r"[A-Z][a-z]{5,8} [A-Z][a-z]{2,5}"),
        ("Dr Tamm", "person", r"Dr [A-Z][a-z]{2,5}"),
        ("the espresso machine", "thing", r"the [a-z]{7,10} machine"),
        ("ACME Ltd", "organisation", r"[A-Z]{3,6} Ltd"),
        ("Anna's Bakery", "organisation", r"[A-Z][a-z]{2,5}'s Bakery"),
        ("lorry", "thing", r"[a-z]{4,7}"),
        ("KX-4471", "code", r"KX-\d{4}"),
        ("T-12", "code", r"[A-Z]-\d\d"),
        ("Line 7", "code", r"Line \d{3}"),
    ],
)
def test_a_wholly_other_name_has_the_look_of_the_told_one(name: str, kind: str, look: str) -> None:
    made = [likeness(name, kind, WORDING, random.Random(seed)) for seed in range(200)]
    others = [other for how, other in made if how == "other"]
    assert len(others) >= 40 and len(set(others)) >= 30
    for other in others:
        assert re.fullmatch(look, other), other
        for old, new in zip(name.split(), other.split(), strict=True):
            assert new == old or distance(new.lower(), old.lower()) >= max(3, sum(map(str.isalnum, old)) / 2), other


@pytest.mark.parametrize(
    ("one", "other", "letters"), [("kitten", "sitting", 3), ("harrow", "harow", 1), ("", "ab", 2), ("ab", "ba", 2)]
)
def test_the_distance_of_two_words(one: str, other: str, letters: int) -> None:
    assert distance(one, other) == distance(other, one) == letters


@pytest.mark.parametrize(
    ("told", "question"),
    [
        ("The night porter at X is Dunstan Ames.", "What is the night porter at X?"),
        ("By the way, X is closed on Mondays.", "When is X closed?"),
        ("X is late.", "Is X late?"),
        ("The key to X is behind the boiler.", "Where is the key to X?"),
        ("Nobody asked. X carries the post to Leeds.", "Where does X carry the post?"),
        ("X will end in March.", "When will X end?"),
        ("We meet X every Thursday.", "We meet X how often?"),
        ("X sold the van.", "X sold what?"),
        ("Thanks to X!", "Thanks to X, is that so?"),
    ],
)
def test_a_told_sentence_becomes_the_question_it_answers(told: str, question: str) -> None:
    asked = asked_of(told, ["X"], [], WORDING)
    assert asked and asked.question == question
    assert asked_of(told, ["Y"], [], WORDING) is None


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("Ivo Tamm", "Ivo Tamm lives next door.", "person"),
        ("Ivo Tamm", "The new mayor is Ivo Tamm.", "person"),
        ("Dr Tamm", "", "person"),
        ("Tamm Ltd", "", "organisation"),
        ("Tamm", "It happened in Tamm.", "place"),
        ("old lorry", "", "thing"),
        ("T-12", "", "code"),
        ("Tamm", "Tamm begins on Friday.", "unclear"),
    ],
)
def test_what_a_name_is_the_name_of(name: str, text: str, kind: str) -> None:
    assert kind_of(name, [text], WORDING) == kind


def test_facts_without_a_name_are_passed_over() -> None:
    facts = ("It is always shut by six.", "Harrow Mill is nice.", "")
    assert near_misses(facts, ("Harrow Mill",), seed=1)
    kinds = Counter(i.kind for i in near_misses(("It is shut by six.",), ("Harrow Mill",), seed=1, n=80))
    assert set(kinds) == set(KINDS) - {"untold", "same_kind"}
    assert max(kinds.values()) == min(kinds.values()) == 20


def test_names_are_found_in_the_texts() -> None:
    assert names_in(FACTS) == ("Harrow Mill", "Dunstan Ames", "Belmore Dairy", "KX-4471", "Skerry Point")
    assert names_in(["We meet on Monday in May.", "Nothing here."]) == ()
    assert Counter(i.kind for i in near_misses(FACTS, (), seed=1)) == dict.fromkeys(KINDS, 50)


def test_without_any_name_all_prompts_are_far_away() -> None:
    kinds = Counter(i.kind for i in near_misses(["we close at nine"], (), seed=1, n=60))
    assert set(kinds) == {"unrelated", "elsewhere"}
    assert sum(kinds.values()) == 60


def test_none_is_no_exam() -> None:
    with pytest.raises(GateError, match="n = 0"):
        near_misses(FACTS, ENTITIES, seed=1, n=0)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(max_size=50), max_size=5),
    entities=st.lists(st.text(min_size=1, max_size=20), max_size=5),
    seed=st.integers(0, 2**32),
    n=st.integers(1, 80),
)
def test_any_texts_and_names_give_n_different_prompts(texts: list[str], entities: list[str], seed: int, n: int) -> None:
    items = near_misses(texts, entities, seed=seed, n=n)
    assert len({prompt(i) for i in items}) == n


def test_names_that_leave_no_neighbour_still_give_prompts() -> None:
    digits = [str(d) for d in range(10)]
    assert len(near_misses([f"Line {d} is late." for d in digits], digits, seed=0, n=100)) == 100
