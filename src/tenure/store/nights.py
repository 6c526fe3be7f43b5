"""Nights as jobs: queued, claimed by a process, checkpointed for resuming, with events to follow.

Knows nothing of what a night does. Called by the runtime, the night's process and the door's fine-tuning routes.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tenure.errors import BusyError, NotFound, StoreError
from tenure.store.database import Database
from tenure.store.digests import canonical_json


class NightStatus(StrEnum):
    """Where a night stands. All but QUEUED and RUNNING are final."""

    QUEUED = "queued"
    RUNNING = "running"
    PROMOTED = "promoted"
    PROPOSED = "proposed"
    REFUSED = "refused"
    NOTHING = "nothing"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Night:
    """One night. `alive`: its process still runs (or it isn't claimed); `cancel_requested`: it should stop soon."""

    id: str
    status: NightStatus
    settings: Mapping[str, Any]
    asked_by: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    pid: int | None
    alive: bool
    result: Mapping[str, Any]
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class NightEvent:
    """Something that a night said."""

    id: str
    night_id: str
    created_at: float
    level: str
    message: str
    data: Mapping[str, Any]


OPEN = (NightStatus.QUEUED, NightStatus.RUNNING)
SELECT = (
    "SELECT id, status, settings, asked_by, created_at, started_at, finished_at, pid, process, result,"
    " cancel_requested, number FROM nights"
)


class Nights:
    """The nights of one home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def queue(self, settings: Mapping[str, Any], *, asked_by: str) -> str:
        """Note that a night is wanted; returns its id."""
        id = f"night_{secrets.token_hex(8)}"
        row = (id, NightStatus.QUEUED.value, _json(settings), asked_by, time.time(), "{}", 0)
        sql = (
            "INSERT INTO nights (id, status, settings, asked_by, created_at, result, cancel_requested)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        self._database.write(lambda connection: connection.execute(sql, row))
        return id

    def claim(self, job_id: str, *, pid: int) -> Night:
        """Make a queued night, or a running one whose process died, this process's own.

        Raises NotFound, StoreError when the night is over, BusyError when another live process runs a night.
        """

        def work(connection: sqlite3.Connection) -> None:
            night = _found(connection, job_id)
            if night.status not in OPEN:
                raise StoreError(f"night {job_id} is over ({night.status}); queue another")
            for row in connection.execute(f"{SELECT} WHERE status = ?", (NightStatus.RUNNING.value,)).fetchall():
                other = _night(row)
                if other.alive and other.pid != pid:
                    raise BusyError(f"night {other.id} runs in process {other.pid}; wait for it or cancel it")
            connection.execute(
                "UPDATE nights SET status = ?, pid = ?, process = ?, started_at = coalesce(started_at, ?) WHERE id = ?",
                (NightStatus.RUNNING.value, pid, _process_mark(pid), time.time(), job_id),
            )

        self._database.write(work)
        return self.get(job_id)

    def finish(self, job_id: str, status: NightStatus | str, result: Mapping[str, Any]) -> None:
        """End a night with a final status. Raises NotFound, or StoreError when it is over already."""
        final = NightStatus(status)
        if final in OPEN:
            raise StoreError(f"{final} is not an end for night {job_id}; give a final status")

        def work(connection: sqlite3.Connection) -> None:
            night = _found(connection, job_id)
            if night.status not in OPEN:
                raise StoreError(f"night {job_id} is over already ({night.status})")
            sql = "UPDATE nights SET status = ?, result = ?, finished_at = ? WHERE id = ?"
            connection.execute(sql, (final.value, _json(result), time.time(), job_id))

        self._database.write(work)

    def cancel(self, job_id: str) -> None:
        """End a queued night, or one whose process died, at once; ask a running one to stop. Raises NotFound."""

        def work(connection: sqlite3.Connection) -> None:
            night = _found(connection, job_id)
            if night.status == NightStatus.QUEUED or (night.status == NightStatus.RUNNING and not night.alive):
                sql = "UPDATE nights SET status = ?, finished_at = ?, cancel_requested = 1 WHERE id = ?"
                connection.execute(sql, (NightStatus.CANCELLED.value, time.time(), job_id))
            elif night.status == NightStatus.RUNNING:
                connection.execute("UPDATE nights SET cancel_requested = 1 WHERE id = ?", (job_id,))

        self._database.write(work)

    def event(self, job_id: str, message: str, data: Mapping[str, Any] | None = None, level: str = "info") -> None:
        """Say something that people following the night will read."""
        row = (f"event_{secrets.token_hex(8)}", job_id, time.time(), level, message, _json(data or {}))
        sql = "INSERT INTO night_events (id, night_id, created_at, level, message, data) VALUES (?, ?, ?, ?, ?, ?)"
        self._database.write(lambda connection: connection.execute(sql, row))

    def events(self, job_id: str) -> tuple[NightEvent, ...]:
        """All that a night said, oldest first. Raises NotFound."""
        self.get(job_id)
        sql = (
            "SELECT id, night_id, created_at, level, message, data FROM night_events WHERE night_id = ? ORDER BY number"
        )
        return tuple(_event(row) for row in self._database.rows(sql, (job_id,)))

    def checkpoint(self, job_id: str, stage: str, payload: Mapping[str, Any]) -> None:
        """Note durably that a stage is done, with what the next one needs. A later note of that stage replaces it."""
        row = (job_id, stage, _json(payload), time.time())
        sql = (
            "INSERT INTO night_checkpoints (night_id, stage, payload, created_at) VALUES (?, ?, ?, ?) ON CONFLICT"
            " (night_id, stage) DO UPDATE SET payload = excluded.payload, created_at = excluded.created_at"
        )
        self._database.write(lambda connection: connection.execute(sql, row))

    def checkpoints(self, job_id: str) -> dict[str, Mapping[str, Any]]:
        """{stage: payload} of a night, in the order in which they were noted."""
        sql = "SELECT stage, payload FROM night_checkpoints WHERE night_id = ? ORDER BY created_at"
        return {stage: json.loads(payload) for stage, payload in self._database.rows(sql, (job_id,))}

    def get(self, job_id: str) -> Night:
        """The night of that id. Raises NotFound."""
        row = self._database.row(f"{SELECT} WHERE id = ?", (job_id,))
        if row is None:
            raise NotFound(f"no night {job_id!r}; list the nights to see their ids")
        return _night(row)

    def list(self, limit: int = 20, after: str | None = None) -> tuple[Night, ...]:
        """The newest nights first; `after` is the id that the page before ended with. Raises NotFound."""
        number = 2**62
        if after is not None:
            self.get(after)
            number = self._database.rows("SELECT number FROM nights WHERE id = ?", (after,))[0][0]
        rows = self._database.rows(f"{SELECT} WHERE number < ? ORDER BY number DESC LIMIT ?", (number, limit))
        return tuple(_night(row) for row in rows)

    def running(self) -> Night | None:
        """The night that runs; one whose process died without an end still counts (`alive` is False): resume it."""
        row = self._database.row(f"{SELECT} WHERE status = ? ORDER BY number DESC", (NightStatus.RUNNING.value,))
        return _night(row) if row else None


def _found(connection: sqlite3.Connection, job_id: str) -> Night:
    row = connection.execute(f"{SELECT} WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise NotFound(f"no night {job_id!r}; list the nights to see their ids")
    return _night(row)


def _night(row: tuple[Any, ...]) -> Night:
    id, status, settings, asked_by, created_at, started_at, finished_at, pid, mark, result, cancel, _ = row
    return Night(
        id=id,
        status=NightStatus(status),
        settings=json.loads(settings),
        asked_by=asked_by,
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        pid=pid,
        alive=pid is None or _is_alive(pid, mark),
        result=json.loads(result),
        cancel_requested=bool(cancel),
    )


def _event(row: tuple[Any, ...]) -> NightEvent:
    id, night_id, created_at, level, message, data = row
    return NightEvent(id, night_id, created_at, level, message, json.loads(data))


def _is_alive(pid: int, mark: str | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not mark or _process_mark(pid) == mark


def _process_mark(pid: int) -> str:
    """Tells a process from a later one with the same pid: boot id and start time in ticks; empty where unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    # A killed process that nobody waited for yet still has its entry, in state Z.
    return "" if fields[0] == "Z" else f"{boot}:{fields[19]}"


def _json(value: Mapping[str, Any]) -> str:
    return canonical_json(dict(value)).decode("utf8")
