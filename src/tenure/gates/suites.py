"""Exams: a named list of items with a purpose, read from JSON lines.

Lives here: Suite, the reader with errors by line number, the built-in suites, a user's golden sets. Knows no model and
no result. Called by the night and by `tenure gate` to collect what a version is asked. The format is in docs/gates.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tenure.errors import GateError
from tenure.store.digests import canonical_json, digest_bytes
from tenure.types import ChoiceItem, Item, Message, QuestionItem, SilenceItem, SuiteKind

RESERVED = frozenset(kind.value for kind in SuiteKind if kind is not SuiteKind.GOLDEN)


@dataclass(frozen=True, slots=True)
class Suite:
    """An exam. `required`, `delta` (margin) and `max_broken` (count rule instead of a test) are a golden set's own."""

    name: str
    items: tuple[Item, ...]
    kind: SuiteKind
    required: bool = False
    delta: float | None = None
    max_broken: int | None = None

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for item in self.items:
            if item.id in seen:
                raise GateError(f"suite {self.name!r} has two items with the id {item.id!r}; give each its own")
            seen.add(item.id)


def item_digest(item: Item) -> str:
    """Names the question by its content; ids, families and accepted answers are no part of what is asked."""
    if isinstance(item, ChoiceItem):
        return digest_bytes(canonical_json({"prompt": item.prompt, "choices": item.choices}))
    return digest_bytes(canonical_json({"messages": item.messages}))


def general_suite() -> Suite:
    """The built-in exam of general ability: short multiple-choice items over checkable knowledge."""
    return _built_in("general", SuiteKind.GENERAL)


def neutral_suite() -> Suite:
    """The built-in neutral prompts on which drift from the base is measured."""
    return _built_in("neutral", SuiteKind.DRIFT)


def _built_in(name: str, kind: SuiteKind) -> Suite:
    text = (files("tenure.gates") / "items" / f"{name}.jsonl").read_text("utf8")
    return read_suite(name, text, where=f"{name}.jsonl (built in)", kind=kind)


def golden_suites(folder: Path) -> tuple[Suite, ...]:
    """Every *.jsonl in a folder as a golden set named by its file; () where there is no folder.

    Raises GateError for unreadable files, broken lines, or a file that bears the name of a built-in suite.
    """
    suites = []
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem in RESERVED:
            raise GateError(f"{path}: {path.stem!r} is the name of a built-in suite; give the file another name")
        try:
            text = path.read_text("utf8")
        except (OSError, UnicodeDecodeError) as error:
            raise GateError(f"can't read the suite {path}: {error}; it has to be UTF-8 JSON lines") from error
        suites.append(read_suite(path.stem, text, where=str(path)))
    return tuple(suites)


def read_suite(name: str, text: str, *, where: str, kind: SuiteKind = SuiteKind.GOLDEN) -> Suite:
    """Read JSON lines; blank lines are skipped. A first line of type "suite" holds the suite's own terms.

    Raises GateError that names `where`, the line and what is wrong with it.
    """
    items: list[Item] = []
    terms: dict[str, Any] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ValueError("a line must be a JSON object")
            if fields.get("type") == "suite":
                terms = _terms(fields, first=not items and not terms)
            else:
                items.append(_item(fields, default_id=f"{name}-{number}"))
        except (ValueError, KeyError, TypeError) as error:
            told = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise GateError(f"{where}, line {number}: {told}; correct or remove the line") from error
    if not items:
        raise GateError(f"{where} holds no items; add some, or remove the file")
    try:
        return Suite(name, tuple(items), kind, **terms)
    except GateError as error:
        raise GateError(f"{where}: {error}") from error


def _terms(fields: Mapping[str, Any], *, first: bool) -> dict[str, Any]:
    if not first:
        raise ValueError('a line of type "suite" must be the first one')
    _only(fields, {"type", "required", "delta", "max_broken"})
    terms: dict[str, Any] = {}
    if "required" in fields:
        if not isinstance(fields["required"], bool):
            raise ValueError(f"required = {fields['required']!r} is neither true nor false")
        terms["required"] = fields["required"]
    if "delta" in fields:
        terms["delta"] = _number(fields, "delta")
        if not 0 < terms["delta"] < 1:
            raise ValueError(f"delta = {terms['delta']} is not between 0 and 1; for no loss at all set max_broken to 0")
    if "max_broken" in fields:
        terms["max_broken"] = _index(fields, "max_broken")
    return terms


def _item(fields: Mapping[str, Any], *, default_id: str) -> Item:
    kind = fields.get("type")
    reader = READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ValueError(f"type = {kind!r} is none of {', '.join(READERS)}")
    item_id = _text(fields, "id") if "id" in fields else default_id
    family = _text(fields, "family") if "family" in fields else item_id
    return reader(fields, item_id, family)


def _choice(fields: Mapping[str, Any], item_id: str, family: str) -> Item:
    _only(fields, {"type", "id", "family", "prompt", "choices", "answer"})
    choices = _texts(fields, "choices", least=2)
    if len(set(choices)) != len(choices):
        raise ValueError(f"choices {list(choices)} hold the same text twice")
    answer = fields["answer"]
    if isinstance(answer, str):
        if answer not in choices:
            raise ValueError(f"answer = {answer!r} is none of the choices")
        answer = choices.index(answer)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise ValueError(f"answer = {answer!r} must be one of the choices or its index, 0 to {len(choices) - 1}")
    return ChoiceItem(item_id, family, _text(fields, "prompt"), choices, answer)


def _question(fields: Mapping[str, Any], item_id: str, family: str) -> Item:
    _only(fields, {"type", "id", "family", "prompt", "messages", "accepted", "rejected", "kind"})
    rejected = _texts(fields, "rejected", least=0) if "rejected" in fields else ()
    kind = _text(fields, "kind") if "kind" in fields else "paraphrase"
    return QuestionItem(item_id, family, _messages(fields), _texts(fields, "accepted", least=1), rejected, kind)


def _silence(fields: Mapping[str, Any], item_id: str, family: str) -> Item:
    _only(fields, {"type", "id", "family", "prompt", "messages", "kind"})
    kind = _text(fields, "kind") if "kind" in fields else "unrelated"
    return SilenceItem(item_id, family, _messages(fields), kind)


READERS: Mapping[str, Callable[[Mapping[str, Any], str, str], Item]] = {
    "choice": _choice,
    "question": _question,
    "silence": _silence,
}


def _messages(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    if ("messages" in fields) == ("prompt" in fields):
        raise ValueError("give either messages or prompt")
    given = fields["messages"] if "messages" in fields else fields["prompt"]
    if isinstance(given, str):
        if not given.strip():
            raise ValueError("the prompt is empty")
        return (Message("user", given),)
    if not isinstance(given, list) or not given:
        raise ValueError(f"messages = {given!r} must be a text or a list of {{role, content}}")
    messages = []
    for entry in given:
        if not isinstance(entry, dict):
            raise ValueError(f"message {entry!r} must be an object with role and content")
        _only(entry, {"role", "content"})
        messages.append(Message(_text(entry, "role"), _text(entry, "content")))
    if messages[-1].role != "user":
        raise ValueError(f"the last message has the role {messages[-1].role!r}; the model answers a user")
    return tuple(messages)


def _only(fields: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} = {value!r} must be a text that isn't empty")
    return value


def _texts(fields: Mapping[str, Any], key: str, *, least: int) -> tuple[str, ...]:
    value = fields[key]
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or len(value) < least or not all(isinstance(v, str) and v.strip() for v in value):
        raise ValueError(f"{key} = {value!r} must be a list of at least {least} texts")
    return tuple(value)


def _number(fields: Mapping[str, Any], key: str) -> float:
    value = fields[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key} = {value!r} must be a number")
    return float(value)


def _index(fields: Mapping[str, Any], key: str) -> int:
    value = fields[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{key} = {value!r} must be a whole number of at least 0")
    return value
