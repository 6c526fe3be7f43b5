"""Memories: text that may be put into a prompt, searched by words within one scope.

SQLite's FTS5 keeps the words (porter stems over unicode61); BM25 counts one scope alone. Superseded memories stay and
say when they held; erased ones leave the tables, the full-text index and the log. Knows nothing of prompts or models.
Called by context/, the library (`Store.record`) and the runtime.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from tenure.errors import NotFound, StoreError
from tenure.store.database import Database, mark_erasure
from tenure.store.ledger import NOTE_ERASURE
from tenure.store.tombstones import Tombstones
from tenure.store.words import Words
from tenure.types import Memory, MemoryKind, Scope

MAX_QUERY_WORDS = 64
PAGE_ROWS = 100
FEW_MEMORIES = 20
K1, B = 1.2, 0.75
INSERT = (
    "INSERT INTO memories (id, tenant, principal, member, kind, text, num_words, source_ids, recorded_at, valid_from,"
    " valid_to, superseded_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
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
        self.words = Words()
        if HAS_SECURE_DELETE:
            database.write(_set_secure_delete)

    def add(self, memory: Memory) -> str:
        """Keep a memory durably; returns its id. Raises StoreError when the id is taken."""
        return self._database.write(self.adding(memory))

    def adding(self, memory: Memory) -> Callable[[sqlite3.Connection], str]:
        """The addition as a piece of a larger transaction (`Database.write`), with its stems already cut."""
        stems = self.words.stems(memory.text)
        scope = (memory.scope.tenant, memory.scope.principal, memory.scope.user)
        row = (
            *(memory.id, *scope, memory.kind.value, memory.text, len(stems), json.dumps(memory.source_ids)),
            *(memory.recorded_at, memory.valid_from, memory.valid_to, memory.superseded_by),
        )

        def work(connection: sqlite3.Connection) -> str:
            scope_number = _scope_number(connection, scope)
            try:
                number = connection.execute(INSERT, row).lastrowid
            except sqlite3.IntegrityError as error:
                raise StoreError(f"there already is a memory {memory.id!r}; give each memory its own id") from error
            sources = [(source_id, number) for source_id in dict.fromkeys(memory.source_ids)]
            connection.executemany("INSERT INTO memory_sources (source_id, number) VALUES (?, ?)", sources)
            body = " ".join(_marked(scope_number, stem) for stem in stems)
            connection.execute("INSERT INTO memory_words (rowid, body) VALUES (?, ?)", (number, body))
            _count(connection, scope, 1, len(stems))
            return memory.id

        return work

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
        """The best matches of any of the query's words in exactly that scope, best first, `score` set (> 0).

        Any text is a valid query: it is cut into stems, operators mean nothing. Superseded memories are left out unless
        asked for. Score: BM25 (Robertson & Zaragoza 2009, eq. 3.15; idf as in Lucene, so that it is never negative)
        over the scope's own counts: nothing that others keep weighs in it. Words in more than half of a scope's
        memories (of 20 or more) are passed over while there are others. The later memory comes first among equals.
        """
        stems = list(dict.fromkeys(self.words.stems(query)))[:MAX_QUERY_WORDS]
        with self._database.snapshot() as connection:
            sql = "SELECT number, num_memories, num_words FROM scopes WHERE tenant = ? AND principal = ? AND member = ?"
            row = connection.execute(sql, (scope.tenant, scope.principal, scope.user)).fetchone()
            if row is None or not row[1] or not stems:
                return ()
            scores = _scores(connection, stems, *row)
            best = sorted(scores, key=lambda number: (-scores[number], -number))
            found: list[Memory] = []
            current = "" if superseded else "AND m.superseded_by IS NULL"
            for start in range(0, len(best), PAGE_ROWS):
                page = best[start : start + PAGE_ROWS]
                marks = ", ".join("?" * len(page))
                sql = f"SELECT m.number, {COLUMNS} FROM memories m WHERE m.number IN ({marks}) {current}"
                rows = {row[0]: row[1:] for row in connection.execute(sql, page)}
                found += [_memory(rows[number], scores[number]) for number in page if number in rows]
                if len(found) >= limit:
                    break
        return tuple(found[:limit])

    def supersede(self, old_id: str, new_id: str, *, at: float) -> None:
        """Say that `old_id` held until `at` and `new_id` holds instead. Raises NotFound for unknown ids."""
        self._database.write(superseding(old_id, new_id, at=at))

    def erase(self, ids: Sequence[str], *, reason: str = "erased") -> int:
        """Remove memories for good, from the index and the log too; returns how many there were.

        Rewrites the database file (`Database.scrub`: time in proportion to it), so erase many at once. Raises
        StoreError when a long reader keeps the log from being cut: the memories have left the tables then, and the next
        opening finishes the job.
        """
        self._tombstones.add("memory", ids, reason=reason)
        num_erased = self._database.write(lambda connection: erase_memories(connection, ids, reason))
        self._database.scrub()
        return num_erased


def _scores(
    connection: sqlite3.Connection, stems: Sequence[str], scope_number: int, num_memories: int, num_words: int
) -> dict[int, float]:
    """{memory number: BM25} of every memory of the scope that has one of the telling stems."""
    sql = "SELECT count(*) FROM memory_words WHERE memory_words MATCH ?"
    spread = {stem: connection.execute(sql, (f'"{_marked(scope_number, stem)}"',)).fetchone()[0] for stem in stems}
    known = [stem for stem in stems if spread[stem]]
    telling = [stem for stem in known if num_memories < FEW_MEMORIES or 2 * spread[stem] <= num_memories] or known
    weight = {stem: math.log(1 + (num_memories - spread[stem] + 0.5) / (spread[stem] + 0.5)) for stem in telling}
    counts: dict[int, dict[str, int]] = {}
    sql = "SELECT doc, count(*) FROM memory_vocabulary WHERE term = ? GROUP BY doc"
    for stem in telling:
        for number, count in connection.execute(sql, (_marked(scope_number, stem),)):
            counts.setdefault(number, {})[stem] = count
    mean_words = max(num_words / num_memories, 1.0)
    lengths = _lengths(connection, list(counts))
    scores = {}
    for number, by_stem in counts.items():
        norm = K1 * (1 - B + B * lengths[number] / mean_words)
        scores[number] = sum(weight[stem] * tf * (K1 + 1) / (tf + norm) for stem, tf in by_stem.items())
    return scores


def _lengths(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, int]:
    lengths: dict[int, int] = {}
    for start in range(0, len(numbers), PAGE_ROWS):
        page = numbers[start : start + PAGE_ROWS]
        sql = f"SELECT number, num_words FROM memories WHERE number IN ({', '.join('?' * len(page))})"
        lengths.update(connection.execute(sql, page).fetchall())
    return lengths


def _marked(scope_number: int, stem: str) -> str:
    return f"{scope_number}q{stem}"


def _scope_number(connection: sqlite3.Connection, scope: tuple[str, str, str]) -> int:
    sql = "SELECT number FROM scopes WHERE tenant = ? AND principal = ? AND member = ?"
    row = connection.execute(sql, scope).fetchone()
    if row is not None:
        return int(row[0])
    sql = "INSERT INTO scopes (tenant, principal, member, num_memories, num_words) VALUES (?, ?, ?, 0, 0)"
    number = connection.execute(sql, scope).lastrowid
    assert number is not None
    return number


def _count(connection: sqlite3.Connection, scope: tuple[str, str, str], num_memories: int, num_words: int) -> None:
    connection.execute(
        "UPDATE scopes SET num_memories = num_memories + ?, num_words = num_words + ?"
        " WHERE tenant = ? AND principal = ? AND member = ?",
        (num_memories, num_words, *scope),
    )


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
    mark_erasure(connection)
    for id in ids:
        sql = "SELECT number, tenant, principal, member, num_words FROM memories WHERE id = ?"
        row = connection.execute(sql, (id,)).fetchone()
        noted = (id, "memory", reason, time.time())
        connection.execute(NOTE_ERASURE, noted)
        if row is None:
            continue
        num_erased += 1
        connection.execute("DELETE FROM memory_words WHERE rowid = ?", row[:1])
        connection.execute("DELETE FROM memory_sources WHERE number = ?", row[:1])
        connection.execute("DELETE FROM memories WHERE number = ?", row[:1])
        _count(connection, row[1:4], -1, -row[4])
    if num_erased and not HAS_SECURE_DELETE:
        connection.execute("INSERT INTO memory_words (memory_words) VALUES ('optimize')")
    return num_erased


def _set_secure_delete(connection: sqlite3.Connection) -> None:
    row = connection.execute("SELECT v FROM memory_words_config WHERE k = 'secure-delete'").fetchone()
    if row is None or not row[0]:
        connection.execute("INSERT INTO memory_words (memory_words, rank) VALUES ('secure-delete', 1)")


def _memory(row: tuple[Any, ...], score: float = 0.0) -> Memory:
    id, tenant, principal, member, kind, text, sources, recorded_at, valid_from, valid_to, superseded_by = row
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
        score=score,
    )
