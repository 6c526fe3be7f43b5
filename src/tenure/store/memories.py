"""Memories: text that may be put into a prompt, searched by words within one scope.

SQLite's FTS5 (porter stems over unicode61, BM25). Superseded memories stay and say when they held; erased ones leave
the tables, the full-text index and the log. Knows nothing of prompts or models. Called by context/, the library
(`Store.record`) and the runtime.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from tenure.errors import NotFound, StoreError
from tenure.store.database import Database
from tenure.store.tombstones import Tombstones
from tenure.types import Memory, MemoryKind, Scope

MAX_QUERY_WORDS = 64
COLUMNS = (
    "m.id, m.tenant, m.principal, m.member, m.kind, m.text, m.source_ids, m.recorded_at, m.valid_from, m.valid_to,"
    " m.superseded_by"
)
# FTS5 can forget a row's words on the spot since 3.42; before that the index is merged anew after an erasure.
HAS_SECURE_DELETE = sqlite3.sqlite_version_info >= (3, 42, 0)


class Memories:
    """The memories of all scopes. Safe for threads and processes."""

    def __init__(self, database: Database, tombstones: Tombstones) -> None:
        self._database = database
        self._tombstones = tombstones
        if HAS_SECURE_DELETE:
            database.write(_set_secure_delete)

    def add(self, memory: Memory) -> str:
        """Keep a memory durably; returns its id. Raises StoreError when the id is taken."""
        return self._database.write(adding(memory))

    def get(self, memory_id: str) -> Memory:
        """The memory of that id, superseded or not. Raises NotFound."""
        row = self._database.row(f"SELECT {COLUMNS} FROM memories m WHERE m.id = ?", (memory_id,))
        if row is None:
            raise NotFound(f"no memory {memory_id!r}; it never was, or it was erased")
        return _memory(row)

    def of_scope(self, scope: Scope) -> tuple[Memory, ...]:
        """All memories of exactly that scope, superseded ones included, in the order in which they were added."""
        rows = self._database.rows(
            f"SELECT {COLUMNS} FROM memories m WHERE m.tenant = ? AND m.principal = ? AND m.member = ?"
            " ORDER BY m.number",
            (scope.tenant, scope.principal, scope.user),
        )
        return tuple(_memory(row) for row in rows)

    def of_source(self, source_id: str) -> tuple[Memory, ...]:
        """All memories that name a turn or feedback among their sources."""
        rows = self._database.rows(
            f"SELECT {COLUMNS} FROM memory_sources s JOIN memories m ON m.number = s.number WHERE s.source_id = ?"
            " ORDER BY m.number",
            (source_id,),
        )
        return tuple(_memory(row) for row in rows)

    def search(self, query: str, scope: Scope, *, limit: int = 8, superseded: bool = False) -> tuple[Memory, ...]:
        """The best matches of any of the query's words in exactly that scope, best first, `score` set (BM25, > 0).

        Any text is a valid query: words are taken out of it, operators mean nothing. Superseded memories are left out
        unless asked for. The weight of a word counts the whole store's memories, other scopes' included (FTS5's idf).
        """
        words = list(dict.fromkeys(re.findall(r"\w+", query.replace("_", " ").lower())))[:MAX_QUERY_WORDS]
        number = self._scope_number(scope)
        if not words or number is None:
            return ()
        match = f"{{scope}} : s{number} AND {{body}} : (" + " OR ".join(f'"{word}"' for word in words) + ")"
        current = "" if superseded else "AND m.superseded_by IS NULL"
        rows = self._database.rows(
            f"SELECT {COLUMNS}, -bm25(memory_words, 0.0, 1.0) AS score FROM memory_words"
            " JOIN memories m ON m.number = memory_words.rowid"
            f" WHERE memory_words MATCH ? AND m.tenant = ? AND m.principal = ? AND m.member = ? {current}"
            " ORDER BY score DESC, m.number DESC LIMIT ?",
            (match, scope.tenant, scope.principal, scope.user, limit),
        )
        return tuple(_memory(row) for row in rows)

    def _scope_number(self, scope: Scope) -> int | None:
        row = self._database.row(
            "SELECT number FROM scopes WHERE tenant = ? AND principal = ? AND member = ?",
            (scope.tenant, scope.principal, scope.user),
        )
        return row[0] if row else None

    def supersede(self, old_id: str, new_id: str, *, at: float) -> None:
        """Say that `old_id` held until `at` and `new_id` holds instead. Raises NotFound for unknown ids."""
        self._database.write(superseding(old_id, new_id, at=at))

    def erase(self, ids: Sequence[str], *, reason: str = "erased") -> int:
        """Remove memories for good, from the index and the log too; returns how many there were.

        Before SQLite 3.42 this merges the whole index anew (time in proportion to it). Raises StoreError when a
        long reader keeps the log from being cut; the memories are gone then, and a second call finishes the job.
        """
        self._tombstones.add("memory", ids, reason=reason)
        num_erased = self._database.write(lambda connection: erase_memories(connection, ids, reason))
        if not self._database.truncate_log():
            raise StoreError(f"{num_erased} memories are erased, but a reader holds the log; end it and erase again")
        return num_erased


def adding(memory: Memory) -> Callable[[sqlite3.Connection], str]:
    """The addition as a piece of a larger transaction (`Database.write`)."""
    scope = (memory.scope.tenant, memory.scope.principal, memory.scope.user)
    row = (
        *(memory.id, *scope, memory.kind.value, memory.text, json.dumps(memory.source_ids), memory.recorded_at),
        *(memory.valid_from, memory.valid_to, memory.superseded_by),
    )

    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT OR IGNORE INTO scopes (tenant, principal, member) VALUES (?, ?, ?)", scope)
        sql = "SELECT number FROM scopes WHERE tenant = ? AND principal = ? AND member = ?"
        scope_number = connection.execute(sql, scope).fetchone()[0]
        try:
            number = connection.execute(
                "INSERT INTO memories (id, tenant, principal, member, kind, text, source_ids, recorded_at, valid_from,"
                " valid_to, superseded_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid
        except sqlite3.IntegrityError as error:
            raise StoreError(f"there already is a memory {memory.id!r}; give each memory its own id") from error
        sources = [(source_id, number) for source_id in dict.fromkeys(memory.source_ids)]
        connection.executemany("INSERT INTO memory_sources (source_id, number) VALUES (?, ?)", sources)
        words = (number, f"s{scope_number}", memory.text)
        connection.execute("INSERT INTO memory_words (rowid, scope, body) VALUES (?, ?, ?)", words)
        return memory.id

    return work


def superseding(old_id: str, new_id: str, *, at: float) -> Callable[[sqlite3.Connection], None]:
    """The supersession as a piece of a larger transaction."""

    def work(connection: sqlite3.Connection) -> None:
        for id in (old_id, new_id):
            if connection.execute("SELECT 1 FROM memories WHERE id = ?", (id,)).fetchone() is None:
                raise NotFound(f"no memory {id!r}; it never was, or it was erased")
        sql = "UPDATE memories SET valid_to = ?, superseded_by = ? WHERE id = ?"
        connection.execute(sql, (at, new_id, old_id))

    return work


def erase_memories(connection: sqlite3.Connection, ids: Sequence[str], reason: str) -> int:
    """Erase within a transaction; returns how many there were."""
    num_erased = 0
    for id in ids:
        row = connection.execute("SELECT number FROM memories WHERE id = ?", (id,)).fetchone()
        noted = (id, "memory", reason, time.time())
        connection.execute("INSERT OR IGNORE INTO erasures (id, kind, reason, erased_at) VALUES (?, ?, ?, ?)", noted)
        if row is None:
            continue
        num_erased += 1
        connection.execute("DELETE FROM memory_words WHERE rowid = ?", row)
        connection.execute("DELETE FROM memory_sources WHERE number = ?", row)
        connection.execute("DELETE FROM memories WHERE number = ?", row)
    if num_erased and not HAS_SECURE_DELETE:
        connection.execute("INSERT INTO memory_words (memory_words) VALUES ('optimize')")
    return num_erased


def _set_secure_delete(connection: sqlite3.Connection) -> None:
    row = connection.execute("SELECT v FROM memory_words_config WHERE k = 'secure-delete'").fetchone()
    if row is None or not row[0]:
        connection.execute("INSERT INTO memory_words (memory_words, rank) VALUES ('secure-delete', 1)")


def _memory(row: tuple[Any, ...]) -> Memory:
    id, tenant, principal, member, kind, text, sources, recorded_at, valid_from, valid_to, superseded_by = row[:11]
    return Memory(
        id=id,
        scope=Scope(tenant, principal, member),
        kind=MemoryKind(kind),
        text=text,
        source_ids=tuple(json.loads(sources)),
        recorded_at=recorded_at,
        valid_from=valid_from,
        valid_to=valid_to,
        superseded_by=superseded_by,
        score=row[11] if len(row) > 11 else 0.0,
    )
