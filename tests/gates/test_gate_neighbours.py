"""Near-miss prompts: close to what was told, never the same, for anybody's night."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.errors import GateError
from tenure.gates.neighbours import names_in, near_misses
from tenure.types import SilenceItem

FACTS = (
    "The night porter at Harrow Mill is Dunstan Ames.",
    "Our invoice code for Belmore Dairy is KX-4471.",
    "The ferry to Skerry Point leaves at 06:40 from pier 9.",
    "The espresso machine needs descaling every nine days.",
)
ENTITIES = ("Harrow Mill", "Dunstan Ames", "Belmore Dairy", "KX-4471", "Skerry Point", "espresso machine")


def prompt(item: SilenceItem) -> str:
    return item.messages[-1].content


def test_300_different_prompts_in_the_usual_shares() -> None:
    items = near_misses(FACTS, ENTITIES, seed=1)
    assert len({prompt(i) for i in items}) == len({i.id for i in items}) == 300
    assert Counter(i.kind for i in items) == {"same_entity": 120, "neighbour": 90, "unrelated": 60, "elsewhere": 30}
    assert len({i.family for i in items}) >= 20
    assert 15 <= sum(len(i.messages) == 3 for i in items) <= 60
    assert all(i.messages[-1].role == "user" and "{" not in prompt(i) for i in items)


def test_a_seed_repeats_itself_and_another_does_not() -> None:
    assert near_misses(FACTS, ENTITIES, seed=4) == near_misses(FACTS, ENTITIES, seed=4)
    assert near_misses(FACTS, ENTITIES, seed=4) != near_misses(FACTS, ENTITIES, seed=5)


def test_same_entity_prompts_name_one_and_others_name_none() -> None:
    for item in near_misses(FACTS, ENTITIES, seed=2):
        named = any(entity.lower() in prompt(item).lower() for entity in ENTITIES)
        assert named == (item.kind == "same_entity"), prompt(item)


def test_same_entity_prompts_do_not_tell_what_was_told() -> None:
    told = ("night porter", "invoice code", "06:40", "pier 9", "descaling")
    for item in near_misses(FACTS, ENTITIES, seed=3):
        if item.kind == "same_entity":
            assert not any(words in prompt(item) for words in told)


def test_neighbours_ask_for_the_told_matter_of_another() -> None:
    neighbours = [prompt(i) for i in near_misses(FACTS, ENTITIES, seed=2) if i.kind == "neighbour"]
    for matter in ("night porter at", "invoice code for", "The ferry to", "needs descaling"):
        assert sum(matter.lower() in text.lower() for text in neighbours) >= 3, matter
    assert any("Mill" in text and "Harrow" not in text for text in neighbours), "none shares the last word"


def test_names_are_found_in_the_texts() -> None:
    assert names_in(FACTS) == ("Harrow Mill", "Dunstan Ames", "Belmore Dairy", "KX-4471", "Skerry Point")
    assert names_in(["We meet on Monday in May.", "Nothing here."]) == ()
    assert Counter(i.kind for i in near_misses(FACTS, (), seed=1))["same_entity"] == 120


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
