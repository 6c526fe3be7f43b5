"""The store of one home, opened as a whole: database, objects, keys.

Layout of a home: `tenure.db` (with -wal and -shm beside it), `tombstones.jsonl`, `objects/`, `keys/`. Opening applies
the tombstones that the database doesn't know yet, so that an old database (a restored backup, or a crash between
tombstone and deletion) never shows what was deleted. Called by the runtime, the command line, the benchmarks and tests.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tenure.errors import NotFound, StoreError
from tenure.store.database import Database
from tenure.store.keys import Keys
from tenure.store.ledger import Ledger, erase_entries
from tenure.store.memories import Memories, erase_memories, superseding
from tenure.store.nights import Nights
from tenure.store.objects import Objects
from tenure.store.registry import Registry
from tenure.store.signatures import Signer
from tenure.store.tombstones import Tombstone, Tombstones, sync_directory
from tenure.types import Alias, Feedback, Memory, Turn

DATABASE = "tenure.db"
TOMBSTONES = "tombstones.jsonl"
OBJECTS = "objects"
KEYS = "keys"


class Store:
    """Everything that is kept, in one home. Safe for threads; several processes may open the same home."""

    def __init__(self, home: Path, database: Database) -> None:
        """Not for callers: use `open`."""
        self.home = home
        self.num_deleted_again = 0  # deletions that opening had to repeat
        self.database = database
        self.tombstones = Tombstones(home / TOMBSTONES)
        self.objects = Objects(home / OBJECTS, self.tombstones)
        self.ledger = Ledger(database, self.tombstones)
        self.memories = Memories(database, self.tombstones)
        self.keys = Keys(database, self.tombstones)
        self.nights = Nights(database)
        self.registry = Registry(database, self.objects, Signer(home / KEYS), self.tombstones)

    @classmethod
    def open(cls, home: Path, *, group_commit_milliseconds: float = 0.0) -> Store:
        """Open a home, making directory and schema when they aren't there.

        `group_commit_milliseconds`: longest wait to share an fsync; 0 shares only what queues anyway.
        Raises StoreError (no permission, locked, broken file, newer schema).
        """
        try:
            fresh = not home.exists()
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            if fresh:
                sync_directory(home.parent)
        except OSError as error:
            raise StoreError(f"can't make the home {home}: {error}; give a directory you may write to") from error
        database = Database(home / DATABASE, group_commit_milliseconds=group_commit_milliseconds)
        try:
            store = cls(home, database)
            store.num_deleted_again = store.apply_tombstones()
        except BaseException:
            database.close()
            raise
        return store

    def record(
        self,
        entry: Turn | Feedback,
        memories: Sequence[Memory] = (),
        *,
        superseded: Sequence[tuple[str, str]] = (),
        idempotency_key: str = "",
    ) -> str:
        """Keep a turn or feedback and what is remembered of it in one durable transaction; returns the entry's id.

        `superseded`: (old id, new id) of memories that a new one replaces from now on. When the idempotency key
        repeats, nothing is kept and the first one's id returned. Raises IdempotencyClash, StoreError.
        """
        append = self.ledger.appending(entry, idempotency_key=idempotency_key)
        additions = [self.memories.adding(memory) for memory in memories]
        replacements = [superseding(old, new, at=entry.created_at) for old, new in superseded]

        def work(connection: sqlite3.Connection) -> str:
            id = append(connection)
            # Another id means that the key repeats: what is remembered of the entry is there already.
            for add in additions if id == entry.id else ():
                add(connection)
            for replace in replacements if id == entry.id else ():
                with contextlib.suppress(NotFound):  # forgotten since it was noticed
                    replace(connection)
            return id

        return self.database.write(work)

    def forget(self, source_ids: Sequence[str], *, reason: str) -> tuple[int, int]:
        """Erase turns or feedback, all feedback on those turns and every memory that names any of them.

        One transaction and one scrub of the file, whatever the number.

        Returns (entries, memories) erased. Raises StoreError as `Ledger.erase` and `Memories.erase` do.
        """
        said_of_them = [feedback.id for id in source_ids for feedback in self.ledger.feedback_of(id)]
        entry_ids = self.ledger.known(list(dict.fromkeys([*source_ids, *said_of_them])))
        memory_ids = sorted({m.id for id in (*source_ids, *entry_ids) for m in self.memories.of_source(id)})
        self.tombstones.add("entry", entry_ids, reason=reason)
        self.tombstones.add("memory", memory_ids, reason=reason)
        counts = self.database.write(
            lambda connection: (
                erase_entries(connection, entry_ids, reason),
                erase_memories(connection, memory_ids, reason),
            )
        )
        self.database.scrub(rewrite=bool(memory_ids))
        return counts

    def apply_tombstones(self) -> int:
        """Repeat the deletions that the database or the object store doesn't know; returns how many those were."""
        missing = [tombstone for tombstone in self.tombstones.read() if not self._knows(tombstone)]
        for tombstone in missing:
            self._repeat(tombstone)
        if self.database.owes_scrub():
            self.database.scrub()
        return len(missing)

    def _knows(self, tombstone: Tombstone) -> bool:
        if tombstone.kind == "object":
            return not self.objects.place_of(tombstone.id).exists()
        sql = {
            "entry": "SELECT 1 FROM erasures WHERE id = ?",
            "memory": "SELECT 1 FROM erasures WHERE id = ?",
            "version": "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM versions WHERE digest = ? AND revoked_at IS NULL)",
            "key": "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM api_keys WHERE id = ? AND revoked_at IS NULL)",
        }[tombstone.kind]
        return self.database.row(sql, (tombstone.id,)) is not None

    def _repeat(self, tombstone: Tombstone) -> None:
        if tombstone.kind == "entry":
            self.database.write(lambda connection: erase_entries(connection, [tombstone.id], tombstone.reason))
        elif tombstone.kind == "memory":
            self.database.write(lambda connection: erase_memories(connection, [tombstone.id], tombstone.reason))
        elif tombstone.kind == "object":
            self.objects.discard(self.objects.place_of(tombstone.id))
        elif tombstone.kind == "key":
            self.keys.mark_revoked(tombstone.id)
        elif tombstone.kind == "version" and tombstone.id != self.registry.alias(Alias.ANCHOR):
            self.database.write(self.registry.revoking(tombstone.id, reason=tombstone.reason))

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self.database.close()
        self.memories.words.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
