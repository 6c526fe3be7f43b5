"""Reading exams: the format, its errors by line, built-in suites and golden sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenure.errors import GateError
from tenure.gates.suites import general_suite, golden_suites, item_digest, neutral_suite, read_suite
from tenure.types import ChoiceItem, Message, QuestionItem, SilenceItem, SuiteKind

CHOICE = {"type": "choice", "id": "c1", "family": "f", "prompt": "Two and two is", "choices": [" 4", " 5"], "answer": 0}
QUESTION = {"type": "question", "messages": "Who?", "accepted": ["Ames"], "rejected": ["Lund"], "kind": "reversed"}
SILENCE = {"type": "silence", "messages": [{"role": "user", "content": "Hello"}]}


def lines(*entries: object) -> str:
    return "\n".join(json.dumps(entry) for entry in entries)


def test_the_three_kinds_of_item() -> None:
    suite = read_suite("mine", lines(CHOICE, QUESTION, SILENCE), where="mine.jsonl")
    assert suite.kind is SuiteKind.GOLDEN
    assert suite.items == (
        ChoiceItem("c1", "f", "Two and two is", (" 4", " 5"), 0),
        QuestionItem("mine-2", "mine-2", (Message("user", "Who?"),), ("Ames",), ("Lund",), "reversed"),
        SilenceItem("mine-3", "mine-3", (Message("user", "Hello"),)),
    )


def test_convenient_forms() -> None:
    text = lines({**CHOICE, "answer": " 5"}, {"type": "question", "prompt": "Who?", "accepted": "Ames"})
    choice, question = read_suite("mine", "\n" + text + "\n\n", where="mine").items
    assert isinstance(choice, ChoiceItem) and choice.answer == 1
    assert isinstance(question, QuestionItem) and question.accepted == ("Ames",)
    assert question.id == "mine-3", "blank lines count, so that ids name the line"


def test_a_set_s_own_terms() -> None:
    terms = {"type": "suite", "required": True, "delta": 0.02, "max_broken": 1}
    suite = read_suite("mine", lines(terms, CHOICE), where="mine")
    assert (suite.required, suite.delta, suite.max_broken) == (True, 0.02, 1)
    assert not read_suite("mine", lines(CHOICE), where="mine").required


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "choise"}, "type = 'choise' is none of choice, question, silence"),
        ({}, "type = None"),
        ([1], "must be a JSON object"),
        ({**CHOICE, "answer": 2}, "answer = 2 must be one of the choices or its index, 0 to 1"),
        ({**CHOICE, "answer": True}, "answer = True"),
        ({**CHOICE, "answer": "4"}, "none of the choices"),
        ({**CHOICE, "choices": [" 4"]}, "at least 2"),
        ({**CHOICE, "choices": [" 4", " 4"]}, "same text twice"),
        ({**CHOICE, "prompt": ""}, "prompt = ''"),
        ({k: v for k, v in CHOICE.items() if k != "choices"}, "'choices' is missing"),
        ({**CHOICE, "wieght": 2}, "unknown key 'wieght'"),
        ({**QUESTION, "accepted": []}, "accepted"),
        ({**QUESTION, "messages": []}, "messages = []"),
        ({**QUESTION, "messages": "  "}, "the prompt is empty"),
        ({**QUESTION, "prompt": "Who?"}, "either messages or prompt"),
        ({"type": "question", "accepted": ["x"]}, "either messages or prompt"),
        ({**SILENCE, "messages": [{"role": "assistant", "content": "Hi"}]}, "the model answers a user"),
        ({**SILENCE, "messages": ["Hi"]}, "must be an object with role and content"),
        ({"type": "suite", "required": True}, "must be the first one"),
    ],
)
def test_errors_name_the_line_and_the_value(entry: object, message: str) -> None:
    with pytest.raises(GateError) as caught:
        read_suite("mine", lines(CHOICE, entry), where="mine.jsonl")
    assert "mine.jsonl, line 2: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"required": "yes"}, "neither true nor false"),
        ({"delta": 0}, "set max_broken to 0"),
        ({"delta": "small"}, "must be a number"),
        ({"max_broken": -1}, "at least 0"),
        ({"minimum": 3}, "unknown key 'minimum'"),
    ],
)
def test_errors_in_a_set_s_terms(terms: dict[str, object], message: str) -> None:
    with pytest.raises(GateError, match="line 1: .*" + message):
        read_suite("mine", lines({"type": "suite", **terms}, CHOICE), where="mine")


def test_broken_json_and_repeated_ids() -> None:
    with pytest.raises(GateError, match="line 2: "):
        read_suite("mine", json.dumps(CHOICE) + '\n{"type": "cho', where="mine")
    with pytest.raises(GateError, match="two items with the id 'c1'"):
        read_suite("mine", lines(CHOICE, CHOICE), where="mine")
    with pytest.raises(GateError, match="holds no items"):
        read_suite("mine", "\n", where="mine")


def test_golden_sets_are_the_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "billing.jsonl").write_text(lines(QUESTION), "utf8")
    (tmp_path / "arithmetic.jsonl").write_text(lines(CHOICE), "utf8")
    (tmp_path / "notes.txt").write_text("no suite", "utf8")
    assert [suite.name for suite in golden_suites(tmp_path)] == ["arithmetic", "billing"]
    assert golden_suites(tmp_path / "absent") == ()


def test_golden_sets_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "general.jsonl").write_text(lines(CHOICE), "utf8")
    with pytest.raises(GateError, match="name of a built-in suite"):
        golden_suites(tmp_path)
    (tmp_path / "general.jsonl").unlink()
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(GateError, match=r"latin\.jsonl.*UTF-8"):
        golden_suites(tmp_path)


def test_a_question_is_named_by_what_is_asked() -> None:
    one, other = (QuestionItem(i, i, (Message("user", "Who?"),), (i,)) for i in "ab")
    assert item_digest(one) == item_digest(other)
    assert item_digest(one) != item_digest(QuestionItem("a", "a", (Message("user", "When?"),), ("a",)))
    assert item_digest(one) == item_digest(SilenceItem("s", "s", (Message("user", "Who?"),)))


def test_the_built_in_suites_are_large_enough_for_the_default_policy() -> None:
    general, neutral = general_suite(), neutral_suite()
    assert general.kind is SuiteKind.GENERAL and neutral.kind is SuiteKind.DRIFT
    assert len(general.items) >= 600
    assert all(isinstance(item, ChoiceItem) for item in general.items)
    assert len({item.family for item in general.items}) >= 20
    assert len(neutral.items) >= 120
    assert len({item_digest(item) for item in general.items}) == len(general.items)
