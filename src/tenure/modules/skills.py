"""Skills: what a base is taught once, before it knows anything of its users, on facts of our own writing.

Each is a low-rank adapter in PEFT layout, trained by `make skills` on `matching.jsonl` (invented facts, with questions
as people put them) and found here: in the package by the digest of the base's weights, or in the model's own directory.
`ASKING` makes the base write questions about a statement; `FINDING` lays a question near the statement that answers it
(`bi_encoder`); `MATCHING` says whether a statement answers a question (`cross_encoder`); `READING` makes it answer from
the notes in its prompt. A base without skills does without: questions by rules, detectors fitted by night, worked
examples in front of the notes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.types import Message

ASKING = "asking"
FINDING = "finding"
MATCHING = "matching"
READING = "reading"
SHIPPED = Path(str(resources.files("tenure"))) / "skills"
WORLD_SIZE = 24  # statements that stand together in the written files as if one person had told them
SEPARATOR = " | "  # between the turns of a conversation in one line


def skill(name: str, model: LanguageModel) -> Path | None:
    """The directory of a skill of this base; None when it was never taught."""
    for directory in (SHIPPED / model.base[:16] / name, model.directory / "skills" / name):
        if (directory / "adapter_model.safetensors").is_file():
            return directory
    return None


@contextmanager
def skilled(engine: Engine, model: LanguageModel, name: str) -> Iterator[None]:
    """Within, the engine holds the skill as an attachment of that name, where the model was taught it."""
    directory = skill(name, model)
    if directory is not None:
        engine.add_attachment(name, directory)
    try:
        yield
    finally:
        engine.drop_attachment(name)


def asked_about(statement: str) -> str:
    """The text after which the skill of asking writes a question, on the same line."""
    return f"{statement}\nAsk:"


def question_line(texts: Sequence[str]) -> str:
    """A conversation as the skill of asking writes it."""
    return " " + SEPARATOR.join(text.replace("\n", " ") for text in texts) + "\n"


def conversation_of(line: str) -> tuple[Message, ...]:
    """A written line as messages, the user's first and last; empty when it is none."""
    parts = [part.strip() for part in line.strip().split(SEPARATOR.strip())]
    return conversation(parts) if len(parts) in (1, 3) and all(parts) else ()


def conversation(texts: Sequence[str]) -> tuple[Message, ...]:
    """Texts as messages of user and assistant in turn."""
    return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))


@dataclass(frozen=True, slots=True)
class WrittenFact:
    """An invented statement, conversations that it answers, and conversations near it that it doesn't.

    `replies`: for some of the first, by their place in `about`, what somebody who knows the statement replies.
    """

    statement: str
    about: tuple[tuple[str, ...], ...]
    near: tuple[tuple[str, ...], ...]
    replies: Mapping[int, str] = field(default_factory=dict)


def written_facts(name: str = "matching.jsonl") -> list[WrittenFact]:
    """The facts of a written file, world by world."""
    lines = resources.files("tenure.modules").joinpath(name).read_text("utf8").splitlines()
    facts = map(json.loads, lines)
    return [
        WrittenFact(
            fact["statement"],
            tuple(map(tuple, fact["about"])),
            tuple(map(tuple, fact["near"])),
            {int(line): reply for line, reply in fact.get("replies", {}).items()},
        )
        for fact in facts
    ]


def worlds_of(facts: Sequence[WrittenFact]) -> list[Sequence[WrittenFact]]:
    """The facts in the worlds that they were written in."""
    return [facts[start : start + WORLD_SIZE] for start in range(0, len(facts), WORLD_SIZE)]


def neutral_prompts() -> list[str]:
    """Ordinary prompts of `neutral.jsonl`, about nothing that anybody told."""
    lines = resources.files("tenure.modules").joinpath("neutral.jsonl").read_text("utf8").splitlines()
    return [entry["prompt"] for entry in map(json.loads, lines) if "prompt" in entry]
