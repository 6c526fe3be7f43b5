"""The ledger: append-only turns and feedback, hash-chained per tenant, erasable without breaking the chain.

What an entry's bytes and its link in the chain are is in entries.py; how appends share an fsync is in database.py.
Knows nothing of memories, versions or models. Called by the library (`Store.record`), the runtime, the night and `why`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tenure.errors import IdempotencyClash, InputError, NotFound, StoreError
from tenure.store import entries
from tenure.store.chain import Verification, verify_chain
from tenure.store.database import Database, mark_erasure
from tenure.store.tombstones import Tombstones
from tenure.types import Feedback, Scope, Turn

PAGE_ROWS = 500
IDS_PER_STATEMENT = 500
INSERT = (
    "INSERT INTO entries (seq, kind, id, tenant, principal, member, session, turn_id, created_at,"
    " content, salt, content_digest, commitment, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SET_HEAD = (
    "INSERT INTO heads (tenant, seq, num_entries, hash) VALUES (?, ?, ?, ?) ON CONFLICT (tenant)"
    " DO UPDATE SET seq = excluded.seq, num_entries = excluded.num_entries, hash = excluded.hash"
)
ERASE = (
    "UPDATE entries SET content = NULL, salt = NULL, content_digest = NULL, principal = NULL, member = NULL,"
    " session = NULL, turn_id = NULL, created_at = NULL WHERE id = ? AND content IS NOT NULL"
)

NOTE_ERASURE = "INSERT INTO erasures (id, kind, reason, erased_at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"

Work = Callable[[sqlite3.Connection], str]


class Ledger:
    """Turns and feedback in the order in which they were kept. Safe for threads and processes."""

    def __init__(self, database: Database, tombstones: Tombstones) -> None:
        self._database = database
        self._tombstones = tombstones
        # What this process knows of the chain's ends, valid while nobody else committed and nothing was rolled back.
        self._state: tuple[int, int] | None = None
        self._last_seq = 0
        self._heads: dict[str, tuple[int, bytes]] = {}

    # ------------------------------------------------------------ writing

    def append(self, entry: Turn | Feedback, *, idempotency_key: str = "") -> str:
        """Keep an entry; on return it is durable. Returns its id, or the first one's when the key repeats.

        Raises IdempotencyClash (same principal and key, other content) and StoreError (id taken, disk, lock).
        """
        return self._database.write(self.appending(entry, idempotency_key=idempotency_key))

    def append_all(self, batch: Sequence[Turn | Feedback]) -> tuple[str, ...]:
        """Keep several entries in one transaction, all or none; returns their ids. Raises as `append` does."""
        parts = [self.appending(entry) for entry in batch]
        return self._database.write(lambda connection: tuple(part(connection) for part in parts))

    def appending(self, entry: Turn | Feedback, *, idempotency_key: str = "") -> Work:
        """The append as a piece of a larger transaction (`Database.write`), with encoding already done."""
        content = entries.encode(entry)
        digest = entries.request_digest(entry) if idempotency_key else b""
        scope = entry.scope
        if "\0" in f"{entry.id}{scope.tenant}" or not entry.id or not scope.tenant:
            raise InputError(f"id {entry.id!r} or tenant {scope.tenant!r} is empty or holds NUL; send plain names")
        kind = entries.TURN if isinstance(entry, Turn) else entries.FEEDBACK
        turn_id = entry.turn_id or None if isinstance(entry, Feedback) else None
        columns = (scope.principal, scope.user, entry.session, turn_id, entry.created_at)
        principal = f"{scope.tenant}/{scope.principal}"

        def work(connection: sqlite3.Connection) -> str:
            if idempotency_key:
                first = _first_of(connection, principal, idempotency_key, digest)
                if first is not None:
                    return first
            self._insert(connection, kind, entry.id, scope.tenant, columns, content)
            if idempotency_key:
                row = (principal, _key_digest(idempotency_key), entry.id, digest)
                connection.execute("INSERT INTO idempotency (principal, key, id, digest) VALUES (?, ?, ?, ?)", row)
            return entry.id

        return work

    def _insert(
        self, connection: sqlite3.Connection, kind: str, id: str, tenant: str, columns: tuple[Any, ...], content: bytes
    ) -> None:
        self._refresh(connection)
        seq = self._last_seq + 1
        num_entries, previous = self._head_of(connection, tenant)
        salt = os.urandom(entries.SALT_BYTES)
        made = entries.link(previous, kind, id, seq, tenant, salt, content)
        try:
            connection.execute(INSERT, (seq, kind, id, tenant, *columns, content, salt, *made))
        except sqlite3.IntegrityError as error:
            raise StoreError(f"the ledger already holds an entry {id!r}; give each entry its own id") from error
        head = (tenant, seq, num_entries + 1, made.hash)
        connection.execute(SET_HEAD, head)
        self._last_seq = seq
        self._heads[tenant] = (num_entries + 1, made.hash)

    def _refresh(self, connection: sqlite3.Connection) -> None:
        state = (connection.execute("PRAGMA data_version").fetchone()[0], self._database.num_rollbacks)
        if state != self._state:
            self._state = state
            self._last_seq = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
            self._heads.clear()

    def _head_of(self, connection: sqlite3.Connection, tenant: str) -> tuple[int, bytes]:
        if tenant not in self._heads:
            row = connection.execute("SELECT num_entries, hash FROM heads WHERE tenant = ?", (tenant,)).fetchone()
            self._heads[tenant] = row or (0, entries.GENESIS)
        return self._heads[tenant]

    def erase(self, ids: Sequence[str], *, reason: str) -> int:
        """Take the content of entries away for good; id, place and commitment stay, so the chain still verifies.

        Returns how many were erased now (unknown and already erased ids count nothing). The ids go to the tombstones
        first, so that neither a crash half-way nor an old backup brings them back. The bytes leave the file
        (secure_delete) and the write-ahead log. Raises StoreError when a long reader keeps the log from being cut:
        the entries are erased then, and the next opening finishes the job.
        """
        known = self.known(ids)
        self._tombstones.add("entry", known, reason=reason)
        num_erased = self._database.write(lambda connection: erase_entries(connection, known, reason))
        self._database.scrub(rewrite=False)
        return num_erased

    def known(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that the ledger has, erased or not."""
        return [id for id in ids if self._database.row("SELECT 1 FROM entries WHERE id = ?", (id,)) is not None]

    # ------------------------------------------------------------ reading

    def turn(self, turn_id: str) -> Turn:
        """The turn of that id. Raises NotFound (unknown, or erased)."""
        row = self._database.row("SELECT kind, content FROM entries WHERE id = ?", (turn_id,))
        if row is None or row[0] != entries.TURN:
            raise NotFound(f"no turn {turn_id!r} in the ledger; ids are those of replies")
        if row[1] is None:
            raise NotFound(f"turn {turn_id!r} was erased; only its place in the chain is left")
        return entries.decode_turn(row[1])

    def feedback_of(self, turn_id: str) -> tuple[Feedback, ...]:
        """What was said about a turn, oldest first."""
        rows = self._database.rows("SELECT content FROM entries WHERE turn_id = ? ORDER BY seq", (turn_id,))
        return tuple(entries.decode_feedback(content) for (content,) in rows)

    def turns(
        self, *, scope: Scope | None = None, after: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Turn]]:
        """(sequence, turn) ascending, beyond sequence `after`; of one scope, or of all when None. Erased ones are
        left out. Reads page by page: no lock is held between items."""
        where = ""
        parameters: dict[str, Any] = {"kind": entries.TURN}
        if scope is not None:
            where = "AND tenant = :tenant AND principal = :principal AND member = :member"
            parameters |= {"tenant": scope.tenant, "principal": scope.principal, "member": scope.user}
        for number, (seq, content) in enumerate(self._pages(where, parameters, after)):
            if limit is not None and number >= limit:
                return
            yield seq, entries.decode_turn(content)

    def feedback(self, *, after: int = 0) -> Iterator[tuple[int, Feedback]]:
        """(sequence, feedback) ascending, beyond sequence `after`. Erased ones are left out."""
        for seq, content in self._pages("", {"kind": entries.FEEDBACK}, after):
            yield seq, entries.decode_feedback(content)

    def _pages(self, where: str, parameters: dict[str, Any], after: int) -> Iterator[tuple[int, bytes]]:
        sql = (
            f"SELECT seq, content FROM entries WHERE seq > :after AND kind = :kind AND content IS NOT NULL {where}"
            f" ORDER BY seq LIMIT {PAGE_ROWS}"
        )
        while rows := self._database.rows(sql, {**parameters, "after": after}):
            yield from rows
            after = rows[-1][0]

    def recent_session(self, scope: Scope, since: float) -> Turn | None:
        """The scope's latest turn, if it was created at or after `since`: the session that a new request may go on."""
        row = self._database.row(
            "SELECT created_at, content FROM entries WHERE tenant = ? AND principal = ? AND member = ? AND kind = ?"
            " AND content IS NOT NULL ORDER BY seq DESC LIMIT 1",
            (scope.tenant, scope.principal, scope.user, entries.TURN),
        )
        return entries.decode_turn(row[1]) if row and row[0] >= since else None

    def repeated(self, principal_id: str, idempotency_key: str) -> str | None:
        """The id kept under a principal's (`tenant/name`) key, if any: lets a caller skip the work of a repeat."""
        row = self._database.row(
            "SELECT id FROM idempotency WHERE principal = ? AND key = ?", (principal_id, _key_digest(idempotency_key))
        )
        return row[0] if row else None

    def erased(self) -> frozenset[str]:
        """Ids of all erased entries."""
        return frozenset(id for (id,) in self._database.rows("SELECT id FROM entries WHERE content IS NULL"))

    def head(self) -> int:
        """The largest sequence number; 0 when empty."""
        row = self._database.row("SELECT coalesce(max(seq), 0) FROM entries")
        return int(row[0]) if row else 0

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Recompute every hash from the stored bytes. `progress(num_done, num_all)` is called now and then.

        Raises ChainBroken naming the first entry that doesn't fit.
        """
        return verify_chain(self._database, progress)


def _key_digest(key: str) -> str:
    # A key outlives the erasure of its entry, and clients put all sorts of things into keys.
    return hashlib.sha256(key.encode("utf8", "surrogatepass")).hexdigest()


def _first_of(connection: sqlite3.Connection, principal: str, key: str, digest: bytes) -> str | None:
    sql = "SELECT id, digest FROM idempotency WHERE principal = ? AND key = ?"
    row = connection.execute(sql, (principal, _key_digest(key))).fetchone()
    if row is None:
        return None
    if row[1] is not None and row[1] != digest:
        raise IdempotencyClash(
            f"idempotency key {key!r} was used for another content ({row[0]}); take a new key for a new request"
        )
    return str(row[0])


def erase_entries(connection: sqlite3.Connection, ids: Sequence[str], reason: str) -> int:
    """Erase within a transaction; returns how many still had content."""
    num_erased = 0
    mark_erasure(connection)
    for id in ids:
        num_erased += connection.execute(ERASE, (id,)).rowcount
        # An unsalted digest of the request would let a guess be confirmed.
        connection.execute("UPDATE idempotency SET digest = NULL WHERE id = ?", (id,))
        row = (id, "entry", reason, time.time())
        connection.execute(NOTE_ERASURE, row)
    return num_erased
