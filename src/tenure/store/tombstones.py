"""What must never come back: ids of erased entries and memories, removed objects, revoked versions and keys.

One JSON line each in `tombstones.jsonl`, in the home beside the database and not in it, so that an old database put
into the home (a restored backup) is met by the deletions made since: `Store.open` applies what is missing. A line is
on disk before its deletion begins. No content is in it, only names. Knows no database; called by all that delete.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["entry", "memory", "object", "version", "key"]


class Tombstone(NamedTuple):
    """One deletion. `at` in seconds since the epoch; `lifted` takes an earlier one back (an object kept anew)."""

    kind: Kind
    id: str
    reason: str
    at: float
    lifted: bool = False


class Tombstones:
    """The tombstones file of one home. Several processes may add at once (one appending write each)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, kind: Kind, ids: Sequence[str], *, reason: str, lifted: bool = False) -> None:
        """Note deletions durably, before they are made."""
        now = time.time()
        self.put([Tombstone(kind, id, reason, now, lifted) for id in ids])

    def put(self, tombstones: Iterable[Tombstone]) -> None:
        """Append tombstones durably."""
        lines = [json.dumps(tombstone._asdict(), ensure_ascii=False) + "\n" for tombstone in tombstones]
        if not lines:
            return
        fresh = not self.path.exists()
        # Append mode: each write lands whole at the end, whoever else writes. A line torn by a crash is closed first.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = ("\n" if torn else "").encode() + "".join(lines).encode("utf8")
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            sync_directory(self.path.parent)

    def read(self) -> list[Tombstone]:
        """All that still hold, one per kind and id."""
        return [tombstone for tombstone in self.latest() if not tombstone.lifted]

    def latest(self) -> list[Tombstone]:
        """The last word on each kind and id, lifted ones included (times decide: files from elsewhere are added at
        the end). A torn line, whose deletion never began, is left out."""
        if not self.path.exists():
            return []
        latest: dict[tuple[str, str], Tombstone] = {}
        for line in self.path.read_bytes().split(b"\n"):
            try:
                tombstone = Tombstone(**json.loads(line))
            except (ValueError, TypeError):
                continue
            before = latest.get((tombstone.kind, tombstone.id))
            if before is None or before.at <= tombstone.at:
                latest[tombstone.kind, tombstone.id] = tombstone
        return list(latest.values())


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
