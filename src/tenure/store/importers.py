"""Real logs into the ledger: streaming, resumable, bad records kept aside by number.

`records.py` reads, `transcripts.py` understands; here conversations become turns, and a batch of turns goes into the
ledger in one transaction with the note of how far the file is, so that an interrupted import goes on where it stopped
and none comes in twice. Knows no model. Called by the command line.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenure.errors import InputError, StoreError, TenureError
from tenure.store.digests import digest_file
from tenure.store.library import Store
from tenure.store.records import Record, read_records
from tenure.store.transcripts import PARSERS, Conversation, conversations_of
from tenure.types import Memory, Message, Scope, Turn

BATCH_TURNS = 200
FOLDER = "imports"
SET_PROGRESS = (
    "INSERT INTO imports (digest, tenant, principal, member, next_record, num_turns, num_rejected, finished,"
    " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest, tenant, principal, member) DO UPDATE SET"
    " next_record = excluded.next_record, num_turns = excluded.num_turns, num_rejected = excluded.num_rejected,"
    " finished = excluded.finished, updated_at = excluded.updated_at"
)

Notice = Callable[[Turn], Sequence[Memory]]
Told = Callable[[str, int, int | None], None]
Row = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. Counts are of the whole file; `num_turns_before` of them came in by an earlier run.

    `rejected`: the JSONL file with the bad records ({"record", "error", "text"}), None when there are none.
    """

    path: Path
    formats: tuple[str, ...]
    num_turns: int
    num_turns_before: int
    num_rejected: int
    rejected: Path | None
    first_errors: tuple[str, ...]


def import_file(
    store: Store,
    path: Path,
    *,
    scope: Scope,
    format: str = "auto",
    progress: Told | None = None,
    notice: Notice | None = None,
) -> Imported:
    """Take a log into the ledger as experience of `scope`.

    `format`: auto (each record's shape decides), openai ({"messages"} a line), sharegpt ({"conversations"}, JSON array
    or JSONL) or locomo. Each assistant message after a user's becomes a turn with all that went before it; words
    after the last reply become a turn with an empty one (metadata "unanswered").
    `notice` says what is remembered of a turn, kept with it.
    `progress(description, bytes_done, bytes_all)`. The same file again, in the same scope, does nothing more.

    Raises InputError (no such file, unknown format) and StoreError (disk; what is in stays in, run it again).
    """
    if format not in ("auto", *PARSERS):
        raise InputError(f"unknown format {format!r}; give auto, {', '.join(PARSERS)}")
    try:
        digest, size = digest_file(path), path.stat().st_size
    except OSError as error:
        raise InputError(f"can't read {path}: {error}; give a file with logs") from error
    run = _Import(store, path, digest, format, scope, notice)
    if not run.finished:
        for position in run.batches():
            if progress is not None:
                progress(f"import {path.name}", position, size)
    return run.report()


class _Import:
    """One file on its way into the ledger."""

    def __init__(self, store: Store, path: Path, digest: str, format: str, scope: Scope, notice: Notice | None) -> None:
        self.store, self.path, self.digest, self.format = store, path, digest, format
        self.scope, self.notice = scope, notice
        self.place = (digest, scope.tenant, scope.principal, scope.user)
        sql = (
            "SELECT next_record, num_turns, num_rejected, finished FROM imports"
            " WHERE digest = ? AND tenant = ? AND principal = ? AND member = ?"
        )
        before: Row = store.database.row(sql, self.place) or (1, 0, 0, 0)
        self.next_record, self.num_turns, self.num_rejected, finished = before
        self.num_turns_before, self.finished = self.num_turns, bool(finished)
        self.formats: set[str] = set()
        self.errors: list[str] = []
        # Two scopes may take the same file: what they reject is the same, but each counts for itself.
        who = hashlib.sha256("\0".join(self.place).encode()).hexdigest()[:12]
        self.aside = store.home / FOLDER / who / f"{path.name}.rejected.jsonl"

    def batches(self) -> Iterator[int]:
        """Import batch by batch; yields the byte of the file that is reached."""
        self._cut_rejected()
        turns: list[Turn] = []
        rejected: list[Record] = []
        number = self.next_record - 1
        for record in read_records(self.path):
            if record.number < self.next_record:
                continue
            number = record.number
            try:
                turns += self._turns(record)
            except InputError as error:
                rejected.append(Record(record.number, record.end, record.value, str(error), record.text))
            if len(turns) >= BATCH_TURNS or len(rejected) >= BATCH_TURNS:
                self._keep(turns, rejected, number + 1, finished=False)
                turns, rejected = [], []
                yield record.end
        self._keep(turns, rejected, number + 1, finished=True)
        yield self.path.stat().st_size

    def _turns(self, record: Record) -> list[Turn]:
        if record.error:
            raise InputError(record.error)
        format, conversations = conversations_of(record.value, self.format)
        self.formats.add(format)
        turns = [turn for one in conversations for turn in turns_of(one, self.scope, f"{self._name()}-{record.number}")]
        if not turns:
            raise InputError("nothing was said by a user in it")
        for turn in turns:
            # What the ledger would refuse (half a surrogate pair, say) must not stop the whole batch.
            try:
                self.store.ledger.appending(turn)
            except TenureError as error:
                raise InputError(str(error)) from error
        return turns

    def _name(self) -> str:
        return hashlib.sha256("\0".join(self.place).encode()).hexdigest()[:16]

    def _keep(self, turns: list[Turn], rejected: list[Record], next_record: int, *, finished: bool) -> None:
        self._put_aside(rejected)
        parts: list[Callable[[sqlite3.Connection], str]] = []
        for turn in turns:
            parts.append(self.store.ledger.appending(turn))
            parts += [self.store.memories.adding(memory) for memory in (self.notice(turn) if self.notice else ())]
        self.num_turns += len(turns)
        self.num_rejected += len(rejected)
        row = (*self.place, next_record, self.num_turns, self.num_rejected, int(finished), time.time())

        def work(connection: sqlite3.Connection) -> None:
            for part in parts:
                part(connection)
            connection.execute(SET_PROGRESS, row)

        self.store.database.write(work)

    def _put_aside(self, rejected: Sequence[Record]) -> None:
        if not rejected:
            return
        try:
            self.aside.parent.mkdir(parents=True, exist_ok=True)
            with self.aside.open("a", encoding="utf8") as file:
                for record in rejected:
                    text = record.text or json.dumps(record.value)
                    line = json.dumps({"record": record.number, "error": record.error, "text": text})
                    file.write(line + "\n")
                    if len(self.errors) < 5:
                        self.errors.append(f"record {record.number}: {record.error}")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"can't keep bad records in {self.aside}: {error}; is the disk full?") from error

    def _cut_rejected(self) -> None:
        """Drop lines that a run wrote whose batch was never committed: they come again."""
        if not self.aside.exists():
            return
        kept = []
        for line in self.aside.read_text("utf8").splitlines(keepends=True):
            try:
                if json.loads(line)["record"] < self.next_record:
                    kept.append(line)
            except ValueError:
                break
        self.aside.write_text("".join(kept), "utf8")

    def report(self) -> Imported:
        aside = self.aside if self.num_rejected else None
        formats = tuple(sorted(self.formats))
        before = self.num_turns_before
        return Imported(self.path, formats, self.num_turns, before, self.num_rejected, aside, tuple(self.errors))


def turns_of(conversation: Conversation, scope: Scope, name: str) -> Iterator[Turn]:
    """The turns of a conversation: each assistant message once a user (or tool) has spoken, with all before it.

    An assistant's opening answers nothing: it is part of what went before the first turn. Words after the last reply
    become a turn with an empty one.
    """
    session = f"import-{name}" + (f"-{conversation.name}" if conversation.name else "")
    created_at = time.time() if conversation.created_at is None else conversation.created_at
    messages = conversation.messages
    begun, first = False, 0
    for number, message in enumerate(messages):
        begun = begun or message.role in ("user", "tool")
        unanswered = message.role in ("user", "tool") and number == len(messages) - 1
        if not unanswered and not (begun and message.role == "assistant"):
            continue
        metadata = dict(conversation.metadata)
        if conversation.marks:
            metadata["marks"] = ",".join(mark for mark in conversation.marks[first : number + 1] if mark)
        if unanswered:
            metadata["unanswered"] = "true"
        prompt, reply = (messages, Message("assistant", "")) if unanswered else (messages[:number], message)
        id = "turn_" + hashlib.sha256(f"{session}\0{number}".encode()).hexdigest()[:32]
        yield Turn(id, scope, session, created_at + number, prompt, reply, source="import", metadata=metadata)
        first = number + 1
