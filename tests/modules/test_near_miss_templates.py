"""What the router is fitted and taught with shares no template with what examines it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tenure
from tenure.modules.near_misses import NOUN_TASKS, NUMBER_TASKS, TASKS

ROOT = Path(tenure.__file__).parent
EXAMS = [*(ROOT / "gates" / "items").glob("near_miss.json"), *(ROOT / "bench" / "worlds").glob("*.json")]


def strings(value: Any) -> Iterator[str]:
    """Every text of a JSON document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in (*value, *value.values()):
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def form(template: str) -> str:
    """A template without its placeholders' names, case and punctuation."""
    return " ".join(re.findall(r"[a-z0-9_]+", re.sub(r"\{[^}]*\}", " _ ", template).lower()))


def test_no_template_of_ours_is_one_of_the_exam() -> None:
    asked = {form(text) for path in EXAMS for text in strings(json.loads(path.read_text("utf8")))}
    assert len(asked) > 500
    shared = [template for template in (*TASKS, *NOUN_TASKS, *NUMBER_TASKS) if form(template) in asked]
    assert not shared, "the examined side may not be changed for it: word these otherwise"
