"""The schema as numbered migrations, only ever added: `migrations/NNNN_name.sql`.

The database records each with its hash; an edited one, or one that this code doesn't know, is refused. Called when a
database is opened.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from tenure.errors import StoreError

MIGRATIONS = Path(__file__).parent / "migrations"


def known_migrations() -> list[tuple[int, str, str]]:
    """(number, file name, SQL) of every migration that this code knows, ascending."""
    files = sorted(MIGRATIONS.glob("[0-9]*.sql"))
    return [(int(path.name[:4]), path.name, path.read_text("utf8")) for path in files]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date in one transaction.

    Raises StoreError when the file's schema is newer than this code, or when an applied migration was edited since.
    """
    known = known_migrations()
    if _applied(connection, known) == len(known):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at REAL NOT NULL)"
        )
        for number, name, sql in known[_applied(connection, known) :]:
            for statement in _statements(sql):
                connection.execute(statement)
            row = (number, name, hashlib.sha256(sql.encode("utf8")).hexdigest(), time.time())
            connection.execute("INSERT INTO migrations VALUES (?, ?, ?, ?)", row)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _applied(connection: sqlite3.Connection, known: list[tuple[int, str, str]]) -> int:
    """How many migrations the file has, after checking that they are the known ones."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone():
        return 0
    rows = connection.execute("SELECT number, name, sha256 FROM migrations ORDER BY number").fetchall()
    if len(rows) > len(known):
        raise StoreError(
            f"the store's schema is newer ({rows[-1][1]}) than this Tenure knows ({known[-1][1]}); upgrade Tenure"
        )
    for (number, name, digest), (known_number, known_name, sql) in zip(rows, known, strict=False):
        if (number, digest) != (known_number, hashlib.sha256(sql.encode("utf8")).hexdigest()):
            raise StoreError(f"migration {name} in the store differs from {known_name} in this Tenure; use its release")
    return len(rows)


def _statements(sql: str) -> Iterator[str]:
    text = ""
    for line in sql.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
