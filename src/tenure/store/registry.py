"""Versions by digest, what is attested about them, and the aliases that move between them.

Every move is one transaction: a kill at any instant leaves the old or the new champion. Knows what a verdict must say,
not how it was reached; knows no model. Called by the runtime, the night, `why` and the command line.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tenure.errors import NotFound, Refused, StoreError, TamperedObject
from tenure.store.database import Database
from tenure.store.digests import canonical_json, digest_bytes, version_digest
from tenure.store.manifests import (
    AliasMove,
    Attestation,
    Lineage,
    VersionRecord,
    artefacts,
    decode_version,
    encode_version,
    verdict_payload,
)
from tenure.store.objects import Objects
from tenure.store.signatures import Signer
from tenure.store.tombstones import Tombstones
from tenure.types import Alias, Outcome, Verdict, Version

VERDICT = "verdict"


class Registry:
    """The versions of one home. Safe for threads and processes."""

    def __init__(self, database: Database, objects: Objects, signer: Signer, tombstones: Tombstones) -> None:
        self._database = database
        self._objects = objects
        self._signer = signer
        self._tombstones = tombstones

    # ------------------------------------------------------------ versions

    def put(self, version: Version) -> str:
        """Keep a version's manifest; returns its digest. Idempotent. Its artefacts are checked when it is promoted."""
        digest = version_digest(version)
        barred = [stone for stone in self._tombstones.read() if (stone.kind, stone.id) == ("version", digest)]

        def work(connection: sqlite3.Connection) -> None:
            _put(connection, digest, version)
            for stone in barred:
                _bar(connection, digest, stone.reason)

        self._database.write(work)
        return digest

    def resolve(self, digest: str) -> str:
        """The full digest of a version from it or from a unique beginning of 8 digits or more. Raises NotFound."""
        if len(digest) < 8 or not set(digest) <= set("0123456789abcdef"):
            raise NotFound(f"{digest!r} names no version; give its digest or at least its first 8 digits")
        rows = self._database.rows(
            "SELECT digest FROM versions WHERE digest >= ? AND digest < ? LIMIT 2", (digest, digest + "g")
        )
        if len(rows) != 1:
            found = "several versions begin" if rows else "no version begins"
            raise NotFound(f"{found} with {digest!r}; `tenure versions` lists them")
        return str(rows[0][0])

    def version(self, digest: str) -> Version:
        """The version of a digest (or of its unique beginning, 8 digits or more). Raises NotFound, TamperedObject."""
        full = self.resolve(digest)
        row = self._database.row("SELECT manifest FROM versions WHERE digest = ?", (full,))
        if row is None:
            raise NotFound(f"no version {digest!r}; `tenure versions` lists them")
        return _checked_version(full, row[0])

    def versions(self) -> tuple[VersionRecord, ...]:
        """All versions, oldest first."""
        sources: dict[str, list[str]] = {}
        for digest, source_id in self._database.rows("SELECT digest, source_id FROM lineage ORDER BY digest, position"):
            sources.setdefault(digest, []).append(source_id)
        sql = "SELECT digest, manifest, created_at, revoked_at, parent FROM versions ORDER BY created_at, digest"
        return tuple(
            VersionRecord(
                digest,
                _checked_version(digest, manifest),
                at,
                revoked is not None,
                parent,
                tuple(sources.get(digest, ())),
            )
            for digest, manifest, at, revoked, parent in self._database.rows(sql)
        )

    def set_lineage(
        self, digest: str, *, parent: str, source_ids: Sequence[str], candidates: Mapping[str, Any]
    ) -> None:
        """Say where a version comes from; replaces what was said. `candidates` is any JSON. Raises NotFound."""
        rows = [(digest, position, source_id) for position, source_id in enumerate(dict.fromkeys(source_ids))]
        content = canonical_json(dict(candidates))

        def work(connection: sqlite3.Connection) -> None:
            sql = "UPDATE versions SET parent = ?, candidates = ? WHERE digest = ?"
            if not connection.execute(sql, (parent, content, digest)).rowcount:
                raise NotFound(f"no version {digest!r}; put it before its lineage")
            connection.execute("DELETE FROM lineage WHERE digest = ?", (digest,))
            connection.executemany("INSERT INTO lineage (digest, position, source_id) VALUES (?, ?, ?)", rows)

        self._database.write(work)

    def lineage(self, digest: str) -> Lineage:
        """Where a version comes from. Raises NotFound."""
        full = self.resolve(digest)
        row = self._database.row("SELECT parent, candidates FROM versions WHERE digest = ?", (full,))
        if row is None:
            raise NotFound(f"no version {digest!r}; `tenure versions` lists them")
        sources = self._database.rows("SELECT source_id FROM lineage WHERE digest = ? ORDER BY position", (full,))
        return Lineage(full, row[0], tuple(source_id for (source_id,) in sources), json.loads(row[1]))

    def descendants(self, source_id: str) -> tuple[str, ...]:
        """The versions whose lineage names a turn or feedback."""
        rows = self._database.rows("SELECT DISTINCT digest FROM lineage WHERE source_id = ?", (source_id,))
        return tuple(digest for (digest,) in rows)

    def is_revoked(self, digest: str) -> bool:
        """Whether a version was revoked. Raises NotFound."""
        row = self._database.row("SELECT revoked_at FROM versions WHERE digest = ?", (digest,))
        if row is None:
            raise NotFound(f"no version {digest!r}; `tenure versions` lists them")
        return row[0] is not None

    # ------------------------------------------------------------ attestations

    def attest(self, digest: str, kind: str, payload: Mapping[str, Any]) -> str:
        """Sign and keep a statement about a version; returns its id. Raises NotFound for an unknown version."""
        if self._database.row("SELECT 1 FROM versions WHERE digest = ?", (digest,)) is None:
            raise NotFound(f"no version {digest!r} to attest; put it first")
        id, now = f"attestation_{secrets.token_hex(8)}", time.time()
        content = {"id": id, "digest": digest, "kind": kind, "created_at": now, "payload": dict(payload)}
        statement = canonical_json(content)
        row = (id, digest, kind, now, statement, self._signer.sign(statement))
        sql = "INSERT INTO attestations (id, digest, kind, created_at, statement, signature) VALUES (?, ?, ?, ?, ?, ?)"
        self._database.write(lambda connection: connection.execute(sql, row))
        return id

    def attestations(self, digest: str, kind: str | None = None) -> tuple[Attestation, ...]:
        """The statements about a version, oldest first. Raises TamperedObject when one isn't as this home signed it."""
        rows = self._database.rows(
            "SELECT id, digest, kind, statement, signature FROM attestations"
            " WHERE digest = ? AND (? IS NULL OR kind = ?) ORDER BY number",
            (digest, kind, kind),
        )
        return tuple(self._attestation(*row) for row in rows)

    def _attestation(self, id: str, digest: str, kind: str, statement: bytes, signature: bytes) -> Attestation:
        if not self._signer.accepts(statement, signature):
            raise TamperedObject(f"attestation {id} about {digest} isn't as this home signed it; restore a backup")
        content = json.loads(statement)
        if (content["id"], content["digest"], content["kind"]) != (id, digest, kind):
            raise TamperedObject(
                f"attestation {id} is filed under another name than it was signed for; restore a backup"
            )
        return Attestation(id, digest, kind, content["created_at"], content["payload"], signature.hex())

    # ------------------------------------------------------------ aliases

    def alias(self, alias: Alias) -> str | None:
        """The digest that an alias points at, or None."""
        row = self._database.row("SELECT digest FROM aliases WHERE alias = ?", (alias.value,))
        return row[0] if row else None

    def aliases(self) -> dict[Alias, str]:
        """All aliases that point somewhere."""
        return {Alias(name): digest for name, digest in self._database.rows("SELECT alias, digest FROM aliases")}

    def history(self) -> tuple[AliasMove, ...]:
        """Every move of every alias, oldest first."""
        sql = "SELECT number, alias, digest, previous, action, reason, moved_at FROM alias_moves ORDER BY number"
        return tuple(AliasMove(row[0], Alias(row[1]), *row[2:]) for row in self._database.rows(sql))

    def generation(self) -> int:
        """A counter that grows with every move and every revocation; cheap enough to poll."""
        row = self._database.row(
            "SELECT (SELECT coalesce(max(number), 0) FROM alias_moves)"
            " + (SELECT count(*) FROM versions WHERE revoked_at IS NOT NULL)"
        )
        return int(row[0]) if row else 0

    def found(self, base: Version) -> str:
        """First start: champion and anchor are the bare base. Does nothing when that is so already.

        Raises StoreError when this home stands on another base.
        """
        digest = version_digest(base)

        def work(connection: sqlite3.Connection) -> str:
            anchor = _alias(connection, Alias.ANCHOR)
            if anchor is None:
                _put(connection, digest, base)
                _move(connection, Alias.ANCHOR, digest, "found", "first start")
                _move(connection, Alias.CHAMPION, digest, "found", "first start")
            elif anchor != digest:
                raise StoreError(
                    f"this home was founded on version {anchor[:12]}, the configured base is {digest[:12]};"
                    " set the model (and its precision) back, or give another home"
                )
            return digest

        return self._database.write(work)

    def challenge(self, digest: str) -> None:
        """Point the challenger at a version. Raises NotFound, Refused when it was revoked."""

        def work(connection: sqlite3.Connection) -> None:
            _require_live(connection, digest)
            _move(connection, Alias.CHALLENGER, digest, "challenge", "")

        self._database.write(work)

    def promote(self, digest: str, verdict: Verdict) -> None:
        """Make a version the champion.

        Raises Refused unless the verdict passed, names this digest, is what the latest signed attestation says, and was
        reached against the champion and anchor of this moment; and when the version was revoked. Raises NotFound or
        TamperedObject when an artefact is missing or was changed. A challenger of that digest is cleared.
        """
        if verdict.outcome is not Outcome.PASSED:
            raise Refused(f"the verdict on {digest[:12]} is {verdict.outcome.value!r}; only a passed one promotes")
        if verdict.version != digest:
            raise Refused(f"the verdict names {verdict.version[:12]}, not {digest[:12]}; judge this very version")
        attested = self.attestations(digest, VERDICT)
        said = verdict_payload(verdict)
        latest = attested[-1].payload if attested else {}
        if canonical_json({name: latest.get(name) for name in said}) != canonical_json(said):
            raise Refused(f"no signed attestation says this verdict on {digest[:12]} last; gate it again")
        self.require_artefacts(digest)

        def work(connection: sqlite3.Connection) -> None:
            _require_live(connection, digest)
            for alias, judged in ((Alias.CHAMPION, verdict.champion), (Alias.ANCHOR, verdict.anchor)):
                now = _alias(connection, alias)
                if now != judged:
                    raise Refused(
                        f"the verdict compares with {alias.value} {judged[:12]}, now {str(now)[:12]}; gate it again"
                    )
            _move(connection, Alias.CHAMPION, digest, "promote", "")
            if _alias(connection, Alias.CHALLENGER) == digest:
                _move(connection, Alias.CHALLENGER, None, "promote", "")

        self._database.write(work)

    def rollback(self) -> str:
        """Make the champion before this one champion again (revoked or broken ones are passed over); returns it.

        Raises StoreError when there is none.
        """
        sound = self._sound_champions()

        def work(connection: sqlite3.Connection) -> str:
            for digest in reversed(_champions(connection)[:-1]):
                if digest in sound and _is_live(connection, digest):
                    _move(connection, Alias.CHAMPION, digest, "rollback", "")
                    return digest
            raise StoreError("there is no earlier champion to roll back to; `tenure versions` shows what there is")

        return self._database.write(work)

    def revoke(self, digest: str, *, reason: str) -> str:
        """Bar a version for good and return the champion of now.

        A revoked champion gives way at once to the latest earlier one that isn't revoked or broken, else to the anchor;
        a revoked challenger is cleared. Restoring an old backup doesn't revive it. Raises NotFound, and StoreError for
        the anchor, which everything falls back to.
        """
        full = self.resolve(digest)
        if full == self.alias(Alias.ANCHOR):
            raise StoreError(f"{full[:12]} is the anchor, which everything falls back to; it can't be revoked")
        self._tombstones.add("version", [full], reason=reason)
        return self._database.write(self.revoking(full, reason=reason))

    def revoking(self, digest: str, *, reason: str) -> Callable[[sqlite3.Connection], str]:
        """The revocation as a piece of a larger transaction, which restoring repeats."""
        sound = self._sound_champions()

        def work(connection: sqlite3.Connection) -> str:
            _bar(connection, digest, reason)
            if _alias(connection, Alias.CHALLENGER) == digest:
                _move(connection, Alias.CHALLENGER, None, "revoke", reason)
            champion = _alias(connection, Alias.CHAMPION)
            if champion == digest:
                earlier = [d for d in _champions(connection)[:-1] if d in sound and _is_live(connection, d)]
                champion = earlier[-1] if earlier else _alias(connection, Alias.ANCHOR)
                _move(connection, Alias.CHAMPION, champion, "revoke", reason)
            return champion or ""

        return work

    def require_artefacts(self, digest: str) -> None:
        """Check that every artefact of a version is there and untampered. Raises NotFound, TamperedObject."""
        for artefact in artefacts(self.version(digest)):
            self._objects.path(artefact, check=True)

    def _sound_champions(self) -> set[str]:
        """Champions so far whose artefacts are all there; checked outside the transaction, for it reads files."""
        sound = set()
        for (digest,) in self._database.rows(
            "SELECT DISTINCT digest FROM alias_moves WHERE alias = ? AND digest IS NOT NULL", (Alias.CHAMPION.value,)
        ):
            try:
                self.require_artefacts(digest)
            except (NotFound, TamperedObject):
                continue
            sound.add(digest)
        return sound


def _put(connection: sqlite3.Connection, digest: str, version: Version) -> None:
    sql = (
        "INSERT INTO versions (digest, manifest, created_at, parent, candidates) VALUES (?, ?, ?, '', ?)"
        " ON CONFLICT (digest) DO NOTHING"
    )
    connection.execute(sql, (digest, encode_version(version), time.time(), b"{}"))


def _bar(connection: sqlite3.Connection, digest: str, reason: str) -> None:
    sql = "UPDATE versions SET revoked_at = ?, revoke_reason = ? WHERE digest = ? AND revoked_at IS NULL"
    connection.execute(sql, (time.time(), reason, digest))


def _checked_version(digest: str, manifest: bytes) -> Version:
    if digest_bytes(manifest) != digest:
        raise TamperedObject(f"the manifest of version {digest} isn't what its name says; restore a backup")
    return decode_version(manifest)


def _alias(connection: sqlite3.Connection, alias: Alias) -> str | None:
    row = connection.execute("SELECT digest FROM aliases WHERE alias = ?", (alias.value,)).fetchone()
    return row[0] if row else None


def _is_live(connection: sqlite3.Connection, digest: str) -> bool:
    sql = "SELECT 1 FROM versions WHERE digest = ? AND revoked_at IS NULL"
    return connection.execute(sql, (digest,)).fetchone() is not None


def _require_live(connection: sqlite3.Connection, digest: str) -> None:
    row = connection.execute("SELECT revoked_at, revoke_reason FROM versions WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        raise NotFound(f"no version {digest!r}; `tenure versions` lists them")
    if row[0] is not None:
        raise Refused(f"version {digest[:12]} was revoked ({row[1]}); it stays barred")


def _move(connection: sqlite3.Connection, alias: Alias, digest: str | None, action: str, reason: str) -> None:
    previous = _alias(connection, alias)
    if digest is None:
        connection.execute("DELETE FROM aliases WHERE alias = ?", (alias.value,))
    else:
        sql = "INSERT INTO aliases (alias, digest) VALUES (?, ?)"
        sql += " ON CONFLICT (alias) DO UPDATE SET digest = excluded.digest"
        connection.execute(sql, (alias.value, digest))
    row = (alias.value, digest, previous, action, reason, time.time())
    sql = "INSERT INTO alias_moves (alias, digest, previous, action, reason, moved_at) VALUES (?, ?, ?, ?, ?, ?)"
    connection.execute(sql, row)


def _champions(connection: sqlite3.Connection) -> list[str]:
    """The line of champions that led to this one, oldest first: promotions add to it, steps back cut it short."""
    line: list[str] = []
    sql = "SELECT digest, action FROM alias_moves WHERE alias = ? ORDER BY number"
    for digest, action in connection.execute(sql, (Alias.CHAMPION.value,)).fetchall():
        if action in ("rollback", "revoke"):
            while line and line[-1] != digest:
                line.pop()
            if not line:
                line.append(digest)
        else:
            line.append(digest)
    return line
