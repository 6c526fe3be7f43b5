"""Verdicts as tables and documents."""

from __future__ import annotations

import json

import pytest
from pupils import Pupil, base_pupil, ids, questions, whole_exam
from rich.console import Console

from tenure.config import GateConfig
from tenure.errors import GateError
from tenure.gates.examination import examine
from tenure.gates.presentation import verdict_document, verdict_from_document, verdict_table
from tenure.gates.verdict import judge
from tenure.types import SuiteKind, Verdict


def verdict() -> Verdict:
    suites = (*whole_exam(), questions("mine", 20, SuiteKind.GOLDEN))
    base = base_pupil(suites)
    version = Pupil("new", suites, wrong=ids("g", range(60)), everywhere=True)
    return judge(examine(version, base, base, suites), GateConfig())


def test_a_document_reads_back_as_it_was() -> None:
    there = verdict()
    text = json.dumps(verdict_document(there), allow_nan=False)
    assert verdict_from_document(json.loads(text)) == there


def test_the_table_says_what_failed_and_why() -> None:
    console = Console(width=180, record=True, force_terminal=False)
    with console.capture() as captured:
        console.print(verdict_table(verdict()))
    text = captured.get()
    assert "failed" in text
    assert "60 broken, 0 fixed of 600" in text
    assert "reported only" in text
    assert "alpha of this night: 0.0304" in text
    for suite in ("told", "general", "near-miss", "drift", "mine"):
        assert suite in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": "fine"}, "outcome 'fine' is none of"),
        ({"alpha": "small"}, "verdict.alpha = 'small' is not a float"),
        ({"extra": 1}, "extra"),
        ({"checks": {}}, "must be lists"),
        ({"checks": [{"suite": "general"}]}, "a check lacks or has unknown fields"),
        ({"version": None}, "verdict.version"),
    ],
)
def test_a_document_that_is_none_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(GateError, match=message):
        verdict_from_document({**verdict_document(verdict()), **change})
    with pytest.raises(GateError, match="lacks or has unknown fields"):
        verdict_from_document({"version": "x"})


def test_a_check_with_a_wrong_bound_is_refused() -> None:
    document = verdict_document(verdict())
    document["checks"][0]["lower"] = "low"
    with pytest.raises(GateError, match="neither a number nor absent"):
        verdict_from_document(document)
