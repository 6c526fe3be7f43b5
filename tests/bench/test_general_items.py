"""The general suite and the neutral prompts: what the files promise."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from tenure.bench.exams.general import items, lines
from tenure.bench.worlds.firm import firm
from tenure.bench.worlds.generator import world

ITEMS = Path(__file__).parents[2] / "src" / "tenure" / "gates" / "items"
SUITE = items()


def test_the_file_is_what_the_generator_writes() -> None:
    assert (ITEMS / "general.jsonl").read_text("utf8") == lines()


def test_size_and_families() -> None:
    families = Counter(item.family for item in SUITE)
    assert len(SUITE) >= 640
    assert len(families) >= 24
    assert min(families.values()) >= 12


def test_no_item_twice() -> None:
    assert len({item.id for item in SUITE}) == len(SUITE)
    assert len({item.prompt for item in SUITE}) == len(SUITE)


def test_choices_are_four_and_different() -> None:
    for item in SUITE:
        assert len(set(item.choices)) == 4, item
        assert len({choice.lower() for choice in item.choices}) == 4 or item.family in {"symbols", "spelling"}, item
        assert all(choice.startswith(" ") and choice[1:] == choice.strip() and choice[1:] for choice in item.choices)


def test_places_of_right_choices_are_balanced() -> None:
    places = Counter(item.answer for item in SUITE)
    assert max(places.values()) - min(places.values()) <= 0.2 * len(SUITE) / 4


def test_length_does_not_tell_the_right_choice() -> None:
    """Always taking the longest or the shortest choice does little better than chance."""
    longest = sum(max(item.choices, key=len) == item.choices[item.answer] for item in SUITE) / len(SUITE)
    shortest = sum(min(item.choices, key=len) == item.choices[item.answer] for item in SUITE) / len(SUITE)
    assert longest < 0.42
    assert shortest < 0.42


def test_both_forms_are_there() -> None:
    questions = sum(item.prompt.startswith("Question: ") for item in SUITE) / len(SUITE)
    assert 0.3 < questions < 0.7
    assert all(item.prompt.count("Answer:") in (0, 3) for item in SUITE)


def test_prompts_are_short_and_end_where_a_choice_can_follow() -> None:
    for item in SUITE:
        assert len(item.prompt.split()) <= 55, item.prompt
        assert not re.search(r"\s$", item.prompt)


def test_examples_are_never_asked() -> None:
    for item in SUITE:
        if item.prompt.startswith("Question: "):
            asked = re.findall(r"Question: (.*)", item.prompt)
            assert asked[-1] not in asked[:-1]


def test_neutral_prompts() -> None:
    rows = [json.loads(line) for line in (ITEMS / "neutral.jsonl").read_text("utf8").splitlines()]
    texts = [row["messages"] for row in rows]
    assert len(rows) == len(set(texts)) == len({row["id"] for row in rows}) == 120
    assert {row["type"] for row in rows} == {"silence"}
    assert all(row["family"].startswith("neutral/") for row in rows)
    assert all(len(text.split()) <= 25 for text in texts)


def test_neutral_prompts_are_no_prompts_of_the_worlds() -> None:
    texts = {json.loads(line)["messages"] for line in (ITEMS / "neutral.jsonl").read_text("utf8").splitlines()}
    for one in (*(world(seed) for seed in range(10)), firm()):
        others = {item.messages[-1].content for item in (*one.unrelated, *one.near_misses)}
        assert not texts & others
