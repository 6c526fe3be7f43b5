"""Verification of the ledger: every hash recomputed from the stored bytes.

Reads raw tuples in slices and decodes nothing. Called by `Ledger.verify`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tenure.errors import ChainBroken
from tenure.store import entries
from tenure.store.database import Database

SLICE_ROWS = 2000  # a long conversation is 100 kB a turn
REMEDY = "restore a backup"
SELECT = (
    "SELECT seq, kind, id, tenant, content, salt, content_digest, commitment, hash FROM entries"
    " WHERE seq > ? AND seq <= ? ORDER BY seq"
)
# The columns that queries filter by repeat what the content says; outside the hash, they are checked against it.
STRAYED = (
    "SELECT seq, id FROM entries WHERE seq > ? AND seq <= ? AND content IS NOT NULL AND"
    " (principal, member, session, id, kind, tenant, coalesce(turn_id, '')) IS NOT"
    " (json_extract(content, '$.scope.principal'), json_extract(content, '$.scope.user'),"
    " json_extract(content, '$.session'), json_extract(content, '$.id'), json_extract(content, '$.kind'),"
    " json_extract(content, '$.scope.tenant'), coalesce(json_extract(content, '$.turn_id'), '')) LIMIT 1"
)


End = tuple[int, bytes, int]  # sequence and hash of a tenant's last entry, and how many there are


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verified ledger holds. `heads`: hex hash of each tenant's last entry; a copy elsewhere pins the past."""

    num_entries: int
    num_erased: int
    heads: dict[str, str]


def verify_chain(database: Database, progress: Callable[[int, int], None] | None = None) -> Verification:
    """Walk all chains from their beginning to the heads. Raises ChainBroken naming the entry that doesn't fit."""
    ends: dict[str, End] = {}
    num_erased = 0
    with database.snapshot() as connection:
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
        heads = connection.execute("SELECT tenant, seq, hash, num_entries FROM heads").fetchall()
    # SQLite compares columns in a second thread (it leaves the interpreter free) while this one hashes.
    with ThreadPoolExecutor(1) as pool:
        for start in range(0, last, SLICE_ROWS):
            stop = min(start + SLICE_ROWS, last)
            comparison = pool.submit(database.row, STRAYED, (start, stop))
            num_erased += _walk(database.rows(SELECT, (start, stop)), ends)
            strayed = comparison.result()
            if strayed is not None:
                raise ChainBroken(f"entry {strayed[1]!r} (sequence {strayed[0]}): columns and content differ; {REMEDY}")
            if progress is not None:
                progress(stop, last)
    if num_erased:
        _require_erasures(database, last)
    _compare_heads(ends, {tenant: (seq, hash, count) for tenant, seq, hash, count in heads})
    num_entries = sum(count for _, _, count in ends.values())
    return Verification(num_entries, num_erased, {tenant: hash.hex() for tenant, (_, hash, _) in ends.items()})


def _walk(rows: list[tuple[Any, ...]], ends: dict[str, End]) -> int:
    """Check a slice against `ends`, which it moves on; returns how many entries were erased."""
    sha256 = hashlib.sha256
    num_erased = 0
    for seq, kind, id, tenant, content, salt, digest, commitment, stored in rows:
        _, previous, count = ends.get(tenant) or (0, entries.GENESIS, 0)
        try:
            if content is None:
                num_erased += 1
            elif sha256(salt + content).digest() != commitment or sha256(content).digest() != digest:
                raise ChainBroken(f"entry {id!r} (sequence {seq}): its content isn't what was committed; {REMEDY}")
            header = f"tenure-entry-1\0{kind}\0{id}\0{seq}\0{tenant}\0".encode()
            if sha256(previous + header + commitment).digest() != stored:
                raise ChainBroken(f"entry {id!r} (sequence {seq}) doesn't follow the one before it; {REMEDY}")
        except TypeError as error:
            raise ChainBroken(f"entry {id!r} (sequence {seq}) holds values of another type; {REMEDY}") from error
        ends[tenant] = (seq, stored, count + 1)
    return num_erased


def _require_erasures(database: Database, last: int) -> None:
    # Content taken away by somebody else than `erase` must not pass for an erasure.
    row = database.row(
        "SELECT seq, id FROM entries WHERE seq <= ? AND content IS NULL AND id NOT IN (SELECT id FROM erasures)"
        " LIMIT 1",
        (last,),
    )
    if row is not None:
        raise ChainBroken(f"entry {row[1]!r} (sequence {row[0]}) lost its content without an erasure; {REMEDY}")


def _compare_heads(found: dict[str, tuple[int, bytes, int]], kept: dict[str, tuple[int, bytes, int]]) -> None:
    for tenant in found.keys() | kept.keys():
        if found.get(tenant) != kept.get(tenant):
            here, there = found.get(tenant), kept.get(tenant)
            raise ChainBroken(
                f"tenant {tenant!r}: the chain ends at sequence {here[0] if here else 0} after {here[2] if here else 0}"
                f" entries, its head says {there[0] if there else 0} after {there[2] if there else 0}; {REMEDY}"
            )
