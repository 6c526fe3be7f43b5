"""API keys: who is speaking, hashed at rest.

A token is `tnr_<id>_<secret>`; the secret has 256 random bits, so its plain sha256 tells nothing. Called by the door
and the command line.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tenure.errors import AccessError, InputError, NotFound
from tenure.store.database import Database
from tenure.store.tombstones import Tombstones
from tenure.types import Principal, Role

PREFIX = "tnr"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known about a key; the token itself is not."""

    id: str
    principal: Principal
    created_at: float
    revoked_at: float | None


class Keys:
    """The API keys of one home."""

    def __init__(self, database: Database, tombstones: Tombstones) -> None:
        self._database = database
        self._tombstones = tombstones

    def create(self, tenant: str, principal: str, roles: Iterable[Role]) -> str:
        """Make a key and return its token, which can't be shown again. Raises InputError for unusable names."""
        for name in (tenant, principal):
            if not name or any(character in name for character in "/\0\n"):
                raise InputError(f"{name!r} can't name a tenant or principal; use a name without '/'")
        wanted = sorted({Role(role) for role in roles})
        if not wanted:
            raise InputError(f"a key for {tenant}/{principal} without roles is of no use; give chat, feedback or admin")
        id, secret = secrets.token_hex(6), secrets.token_hex(32)
        row = (id, tenant, principal, ",".join(wanted), hashlib.sha256(secret.encode()).digest(), time.time())
        self._database.write(
            lambda connection: connection.execute(
                "INSERT INTO api_keys (id, tenant, principal, roles, secret_digest, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
        )
        return f"{PREFIX}_{id}_{secret}"

    def authenticate(self, token: str) -> Principal:
        """Who a token speaks for. Raises AccessError (401) for anything but a live key."""
        parts = token.split("_")
        row = None
        if len(parts) == 3 and parts[0] == PREFIX:
            row = self._database.row(
                "SELECT tenant, principal, roles, secret_digest FROM api_keys WHERE id = ? AND revoked_at IS NULL",
                (parts[1],),
            )
        given = hashlib.sha256(parts[-1].encode("utf8", "surrogatepass")).digest()
        if row is None or not hmac.compare_digest(given, row[3]):
            raise AccessError("this API key is unknown or revoked; ask an admin for another")
        return Principal(row[0], row[1], _roles(row[2]))

    def revoke(self, key_id: str) -> None:
        """End a key at once; restoring an old backup doesn't revive it. Raises NotFound."""
        if self._database.row("SELECT 1 FROM api_keys WHERE id = ?", (key_id,)) is None:
            raise NotFound(f"no API key {key_id!r}; list the keys to see their ids")
        self._tombstones.add("key", [key_id], reason="revoked")
        self.mark_revoked(key_id)

    def mark_revoked(self, key_id: str) -> None:
        """The database's part of `revoke`, which restoring repeats."""
        sql = "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
        self._database.write(lambda connection: connection.execute(sql, (time.time(), key_id)))

    def list(self) -> tuple[KeyRecord, ...]:
        """All keys, oldest first, revoked ones included."""
        sql = "SELECT id, tenant, principal, roles, created_at, revoked_at FROM api_keys ORDER BY created_at, id"
        return tuple(
            KeyRecord(id, Principal(tenant, principal, _roles(roles)), created_at, revoked_at)
            for id, tenant, principal, roles, created_at, revoked_at in self._database.rows(sql)
        )


def _roles(text: str) -> frozenset[Role]:
    return frozenset(Role(role) for role in text.split(","))
