"""Conversations with questions whose evidence is known: LoCoMo, BEAM and RealMem, read from the folder of data.

Formats, licences and known baselines stand in the data's SOURCE.md; nothing of it is kept here. Knows no store and no
search. Called by `retrieval.measure`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from tenure.errors import InputError

LOCOMO_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
MARKER = re.compile(r"\s*->->.*$", re.DOTALL)  # BEAM's "->-> batch,index" at a message's end


@dataclass(frozen=True, slots=True)
class Document:
    """A turn, message or session. `said_at`: seconds since the epoch, None where the data doesn't say."""

    id: str
    text: str
    speaker: str = ""
    said_at: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the documents that answer it, and how many of the corpus's documents it may look at (0: all)."""

    text: str
    gold: frozenset[str]
    category: str
    num_earlier: int = 0


@dataclass(frozen=True, slots=True)
class Corpus:
    """One conversation (or person) and what is asked about it."""

    name: str
    documents: tuple[Document, ...]
    questions: tuple[Question, ...]


def read_corpora(path: Path, form: str) -> list[Corpus]:
    """The corpora of a file or folder. Raises InputError for an unknown form, a missing path, or data that isn't it."""
    if form not in READERS:
        raise InputError(f"format {form!r} is unknown; take one of {', '.join(READERS)}")
    if not path.exists():
        raise InputError(f"there is no {path}; TENURE_DATA names the folder with evaluation data")
    try:
        found = list(READERS[form](path))
    except (LookupError, TypeError, ValueError, OSError, AttributeError) as error:
        raise InputError(f"{path} can't be read as {form}: {type(error).__name__}: {error}") from error
    if not found:
        raise InputError(f"{path} holds no {form} conversation")
    return found


# ------------------------------------------------------------ LoCoMo


def _locomo(path: Path) -> Iterator[Corpus]:
    """One corpus a conversation, one document a turn; labels that an audit found wrong are replaced, if it is there."""
    file = path if path.is_file() else sorted(path.glob("locomo_dev*.json"))[0]
    mended = _mended_evidence(file.with_name("locomo_audit_errors.json"))
    for number, sample in enumerate(json.loads(file.read_text("utf8"))):
        documents = tuple(_locomo_turns(sample["conversation"]))
        known = {document.id for document in documents}
        questions = []
        for index, qa in enumerate(sample["qa"]):
            evidence = mended.get(f"locomo_{number}_qa{index}", qa.get("evidence") or [])
            gold = frozenset(turn for label in evidence for turn in re.findall(r"D\d+:\d+", label)) & known
            if gold:
                questions.append(Question(qa["question"], gold, LOCOMO_CATEGORIES[qa["category"]]))
        yield Corpus(sample["sample_id"], documents, tuple(questions))


def _mended_evidence(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    errors = json.loads(path.read_text("utf8"))
    return {e["question_id"]: e["correct_evidence"] for e in errors if e["error_type"] == "WRONG_CITATION"}


def _locomo_turns(conversation: Mapping[str, Any]) -> Iterator[Document]:
    numbers = sorted(int(key.split("_")[1]) for key in conversation if re.fullmatch(r"session_\d+", key))
    for number in numbers:
        at = datetime.strptime(conversation[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y").timestamp()
        for turn in conversation[f"session_{number}"]:
            shown = f" [shows: {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            yield Document(turn["dia_id"], f"{turn['text']}{shown}", turn["speaker"], at)


# ------------------------------------------------------------ BEAM


def _beam(path: Path) -> Iterator[Corpus]:
    """One corpus a chat, one document a message."""
    for file in sorted(path.glob("chat_*.json.gz"), key=lambda f: int(re.findall(r"\d+", f.name)[0])):
        number = re.findall(r"\d+", file.name)[0]
        batches = json.loads(gzip.decompress(file.read_bytes()))
        documents = tuple(
            Document(str(message["id"]), MARKER.sub("", message["content"]), message["role"])
            for batch in batches
            for turn in batch["turns"]
            for message in turn
        )
        known = {document.id for document in documents}
        probing = json.loads((path / f"probing_{number}.json").read_text("utf8"))
        questions = []
        for ability, entries in probing.items():
            for entry in entries:
                gold = frozenset(_ids(entry.get("source_chat_ids"))) & known
                if gold:
                    questions.append(Question(entry["question"], gold, ability))
        yield Corpus(f"beam-{number}", documents, tuple(questions))


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _ids(part)
    elif value is not None:
        yield str(value)


# ------------------------------------------------------------ RealMem


def _realmem(path: Path) -> Iterator[Corpus]:
    """One corpus a person, one document a session; a query may look at the sessions before its own."""
    for file in sorted(path.glob("*_dialogues_*.json.gz")):
        dialogues = json.loads(gzip.decompress(file.read_bytes()))["dialogues"]
        documents: list[Document] = []
        questions: list[Question] = []
        for place, session in enumerate(dialogues):
            turns = session["dialogue_turns"]
            day = re.match(r"\d{4}-\d{2}-\d{2}", session["current_time"])
            at = datetime.fromisoformat(day.group()).timestamp() if day else None
            text = "\n".join(f"{turn['speaker']}: {turn['content']}" for turn in turns)
            earlier = {document.id for document in documents}
            for asked, answered in pairwise(turns):
                gold = frozenset(answered.get("memory_session_uuids") or ()) & earlier if asked["is_query"] else None
                if gold:
                    questions.append(Question(asked["content"], gold, asked.get("category_name") or "", place))
            documents.append(Document(session["session_uuid"], text, "", at))
        yield Corpus(file.name.split("_dialogues")[0], tuple(documents), tuple(questions))


READERS: Mapping[str, Callable[[Path], Iterator[Corpus]]] = {"locomo": _locomo, "beam": _beam, "realmem": _realmem}
