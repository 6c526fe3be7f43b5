"""When nights are spent from a server: on request, at an hour, or after some idle time; each in a process of its own.

The watch looks at the store once a second, starts what is queued at low priority, and stops what was cancelled. It
shares nothing with a night but the store. Called by `app.py` (start, stop) and by `nights.py` (ask, cancel).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tenure.config import Config, environment_with, write_settings
from tenure.errors import ConfigError
from tenure.serve.flights import Flights
from tenure.sleep.cycle import NightSettings
from tenure.store.library import Store
from tenure.store.nights import Night, NightStatus

log = logging.getLogger("tenure.nights")

TICK_SECONDS = 1.0
NICENESS = 10
MAX_STARTS = 2  # a night whose process dies goes on once
LEAVING_SECONDS = 10.0
# seconds after the wish to stop: a night looks for the wish itself between its stages
STOP_SIGNALS = ((1.0, signal.SIGINT), (15.0, signal.SIGTERM), (30.0, signal.SIGKILL))
MAX_LISTED = 200


@dataclass(slots=True)
class Child:
    """A night's process that this server started."""

    night_id: str
    process: subprocess.Popen[bytes]
    log: Path


def start_night(config: Config, night: Night) -> Child:
    """Start `tenure sleep --night ID` as a process of its own, at low priority, with the settings of server and job.

    It survives the server. What it prints goes to `nights/ID.log` in the store's home.
    """
    folder = config.home / "nights"
    folder.mkdir(parents=True, exist_ok=True)
    known = {f.name for f in fields(config.night)}
    changes = {name: value for name, value in night.settings.items() if name in known}
    wanted = replace(config, night=replace(config.night, **changes))
    settings = write_settings(wanted, folder / f"{night.id}.toml")
    path = folder / f"{night.id}.log"
    command = [sys.executable, "-m", "tenure", "sleep", "--night", night.id]
    with path.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment_with(settings),
            start_new_session=True,
        )
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    except (PermissionError, ProcessLookupError):  # a sandbox may forbid it, and a night may be over at once
        log.warning("night %s runs at normal priority", night.id)
    return Child(night.id, process, path)


def due_after(at: str, now: datetime) -> datetime:
    """The next time of day `at` (HH:MM, local) after `now`. Raises ConfigError."""
    try:
        clock = datetime.strptime(at, "%H:%M").time()
    except ValueError as error:
        raise ConfigError(f"night.at = {at!r} is no time of day; write it as HH:MM, for example 03:30") from error
    due = datetime.combine(now.date(), clock)
    return due if due > now else due + timedelta(days=1)


class NightWatch:
    """Starts and stops nights of one store."""

    def __init__(
        self, config: Config, store: Store, flights: Flights, *, clock: Callable[[], datetime] = datetime.now
    ) -> None:
        """`clock` tells the local time. Raises ConfigError when `night.at` is no time of day."""
        self._config = config
        self._store = store
        self._flights = flights
        self._clock = clock
        self._due = due_after(config.night.at, clock()) if config.night.at else None
        self._launched_before = 0
        self._child: Child | None = None
        self._num_starts: dict[str, int] = {}
        self._stopping: dict[str, tuple[float, int]] = {}  # since when, and how many signals it got
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._watch, name="night-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; a night under way goes on."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        child = self._child
        if child is not None and self._store.nights.get(child.night_id).finished_at is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(LEAVING_SECONDS)  # the night is over and its process on the way out

    def ask(self, changes: Mapping[str, Any], *, asked_by: str) -> Night:
        """Queue a night with these changes to the settings of [night]; the watch starts it."""
        settings = asdict(NightSettings.of(self._config, **changes))
        night_id = self._store.nights.queue(settings, asked_by=asked_by)
        self._wake.set()
        return self._store.nights.get(night_id)

    def cancel(self, night_id: str) -> Night:
        """Take a night off the queue, or stop its process. Raises NotFound."""
        self._store.nights.cancel(night_id)
        self._wake.set()
        return self._store.nights.get(night_id)

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self.tick()
            except Exception:  # the thread's edge: one bad look must not end the watch
                log.exception("the night watch stumbled; it looks again in a second")
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()

    def tick(self) -> None:
        """One look: what ended, what must stop, what is due, what can start."""
        self._reap()
        running = self._store.nights.running()
        if running is not None and running.cancel_requested:
            self._stop_process(running)
        self._ask_when_due()
        if self._child is None and (running is None or not running.alive):
            self._start_next()

    def _start_next(self) -> None:
        queued = [n for n in self._store.nights.list(limit=MAX_LISTED) if n.status is NightStatus.QUEUED]
        cut_off = self._store.nights.running()
        if cut_off is not None and cut_off.id in self._num_starts:
            queued.append(cut_off)  # one of ours whose process died: it goes on where it stopped
        if not queued:
            return
        night = queued[-1]  # the oldest
        self._num_starts[night.id] = self._num_starts.get(night.id, 0) + 1
        self._child = start_night(self._config, night)
        self._launched_before = self._flights.num_launched
        log.info("night %s started (time %d)", night.id, self._num_starts[night.id])

    def _reap(self) -> None:
        child = self._child
        if child is None or child.process.poll() is None:
            return
        self._child = None
        night = self._store.nights.get(child.night_id)
        log.info("night %s ended: %s", night.id, night.status)
        if night.finished_at is not None:
            return
        if night.cancel_requested:
            self._store.nights.cancel(night.id)
        elif self._num_starts[night.id] >= MAX_STARTS:
            reason = f"its process ended with code {child.process.returncode} before the night did; see {child.log}"
            self._store.nights.finish(night.id, NightStatus.FAILED, {"reason": reason})

    def _stop_process(self, night: Night) -> None:
        """Ask, then insist: an interrupt first, so that the night can write down where it stands."""
        if not night.alive:
            self._store.nights.cancel(night.id)
            return
        assert night.pid is not None
        since, sent = self._stopping.setdefault(night.id, (time.monotonic(), 0))
        due = [number for seconds, number in STOP_SIGNALS if time.monotonic() - since >= seconds]
        for number in due[sent:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(night.pid, number)
        self._stopping[night.id] = (since, len(due))

    def _ask_when_due(self) -> None:
        now = self._clock()
        if self._due is not None and now >= self._due:
            self._due = due_after(self._config.night.at, now)
            self.ask({}, asked_by="schedule")
        if self._is_idle():
            self._launched_before = self._flights.num_launched
            self.ask({}, asked_by="idle")

    def _is_idle(self) -> bool:
        """Quiet for long enough, and something was said since the last night."""
        wanted = self._config.night.idle_seconds
        quiet = time.monotonic() - self._flights.last_launch
        new = self._flights.num_launched > self._launched_before
        return wanted > 0 and new and self._flights.num_open == 0 and quiet >= wanted
