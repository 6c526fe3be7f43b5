"""One SQLite file that several processes and threads write at once, with group commit.

WAL, synchronous=FULL: what `write` returned from is on disk. Readers have a connection each (per thread) and never
wait. Writers queue; the first of them takes all that is queued into one transaction, so that they share one fsync,
then makes the next in the queue the leader (no thread of its own: a lone append pays no hand-over). Knows no table
(schema.py brings them). Called by everything in store/; nobody outside holds a connection.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from tenure.errors import StoreError, TenureError
from tenure.store.schema import migrate

BUSY_SECONDS = 60.0
# SQLite's own default. A log that is overwritten within its length changes no metadata when it is synced, which halves
# the price on ext4: so it is kept short enough to start over often, and lengthened at once when a process writes a lot.
CHECKPOINT_PAGES = 1000
LOG_BYTES = CHECKPOINT_PAGES * (4096 + 24)
COMMITS_BEFORE_LENGTHENING = 16
MAX_GROUP = 1024

T = TypeVar("T")


class _Job(Generic[T]):
    """One caller's part of a group's transaction, and what came of it."""

    __slots__ = ("done", "error", "leads", "result", "wake", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.done = False
        self.leads = False
        self.wake = threading.Lock()
        self.wake.acquire()
        self.result: T | None = None
        self.error: BaseException | None = None


class _Reader:
    """A thread's read connection; closes when its thread's storage goes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Database:
    """The connections to one file. Safe for threads; a forked child must open its own."""

    def __init__(self, path: Path, *, group_commit_milliseconds: float = 0.0) -> None:
        """Open `path`, creating it and migrating its schema. Raises StoreError (locked, broken, newer schema)."""
        self.path = path
        self.num_rollbacks = 0
        self._num_commits = 0
        self._window_seconds = group_commit_milliseconds / 1000
        self._queue: deque[_Job[Any]] = deque()
        self._mutex = threading.Lock()  # over the queue and who leads; held for moments
        self._commit = threading.Lock()  # over the write connection; held for a commit
        self._is_led = False
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._readers_lock = threading.Lock()
        self._closed = False
        _make_private(path)
        self._writer = self._connect()
        try:
            migrate(self._writer)
        except BaseException as error:
            self._writer.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise StoreError(
                    f"can't bring the schema of {path} up to date: {error}; it was left as it was"
                ) from error
            raise

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            _set_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute("PRAGMA cache_size = -16384")
            connection.execute("PRAGMA temp_store = MEMORY")
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"can't open {self.path}: {error}; is it a Tenure store, and may you write there?"
            ) from error
        return connection

    # ------------------------------------------------------------ reading

    def reader(self) -> sqlite3.Connection:
        """This thread's connection, for queries only."""
        if self._closed:
            raise StoreError(f"the store at {self.path} is closed; open it again")
        reader = getattr(self._local, "reader", None)
        if reader is None:
            reader = _Reader(self._connect())
            reader.connection.execute("PRAGMA query_only = ON")
            self._local.reader = reader
            with self._readers_lock:
                self._readers.add(reader)
        return cast(sqlite3.Connection, reader.connection)

    def rows(self, sql: str, parameters: tuple[Any, ...] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, fetched at once so that no read lock outlives the call."""
        try:
            return self.reader().execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            raise _translated(error, self.path) from error

    def row(self, sql: str, parameters: tuple[Any, ...] | dict[str, Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection on which several queries see one and the same state. Keep it short: it holds the log back."""
        connection = self.reader()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    # ------------------------------------------------------------ writing

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` inside a transaction shared with other callers; on return it is durable.

        `work` gets the write connection, must not commit, and may be rolled back alone when it raises. It runs in
        whichever thread leads the group. Its exception is raised here. Raises StoreError when the disk or a lock fails:
        then nothing of this call was kept.
        """
        job: _Job[T] = _Job(work)
        with self._mutex:
            self._queue.append(job)
            waits = self._is_led  # read once: whoever waits must take its wake-up, even if it is to lead by then
            if not waits:
                self._is_led = job.leads = True
        if waits:
            try:
                job.wake.acquire()
            except BaseException:
                self._withdraw(job)
                raise
        if job.leads:
            try:
                if self._window_seconds:
                    time.sleep(self._window_seconds)
                while not job.done:
                    self._lead()
            finally:
                with self._mutex:
                    self._pass_on()
        if job.error is not None:
            error, job.error = job.error, None
            raise error
        return cast(T, job.result)

    def _pass_on(self) -> None:
        """Make the first in the queue the next leader. Called with the mutex held, by the leader."""
        self._is_led = bool(self._queue)
        if self._queue:
            self._queue[0].leads = True
            self._queue[0].wake.release()

    def _withdraw(self, job: _Job[Any]) -> None:
        """Take back a job whose caller was interrupted while waiting, unless it is under way."""
        with self._mutex:
            if job in self._queue:
                self._queue.remove(job)
                if job.leads:
                    self._pass_on()

    def _lead(self) -> None:
        with self._commit:
            with self._mutex:
                jobs = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUP))]
            try:
                self._run(jobs)
            finally:
                for job in jobs:
                    if not job.done:
                        job.error = StoreError("the write was interrupted before it was acknowledged; look, then retry")
                        job.done = True
                    job.wake.release()

    def _run(self, jobs: list[_Job[Any]]) -> None:
        connection = self._writer
        if self._closed:
            return self._fail(jobs, StoreError(f"the store at {self.path} is closed; open it again"))
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._num_commits += 1
            if self._num_commits == COMMITS_BEFORE_LENGTHENING:
                _lengthen(Path(f"{self.path}-wal"))
            for job in jobs:
                self._run_one(connection, job, alone=len(jobs) == 1)
            connection.execute("COMMIT")
        except BaseException as error:
            self.num_rollbacks += 1
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.DatabaseError):
                return self._fail(jobs, _translated(error, self.path))
            if len(jobs) == 1 and isinstance(error, Exception):
                return self._fail(jobs, error)
            raise
        for job in jobs:
            job.done = True
        return None

    def _run_one(self, connection: sqlite3.Connection, job: _Job[Any], *, alone: bool) -> None:
        if alone:
            job.result = job.work(connection)
            return
        connection.execute("SAVEPOINT one")
        try:
            job.result = job.work(connection)
        except Exception as error:
            self.num_rollbacks += 1
            connection.execute("ROLLBACK TO one")
            job.error = _translated(error, self.path) if isinstance(error, sqlite3.DatabaseError) else error
        connection.execute("RELEASE one")

    @staticmethod
    def _fail(jobs: list[_Job[Any]], error: Exception) -> None:
        for job in jobs:
            job.error = job.error or error
            job.done = True

    def truncate_log(self, *, seconds: float = 10.0) -> bool:
        """Copy the write-ahead log into the file and cut it to nothing, so that erased bytes leave it too.

        Waits up to `seconds` for readers of older states (other processes included). False: one of them still reads.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self._commit:
                # Waiting happens out here, where writers of this process may go on.
                self._writer.execute("PRAGMA busy_timeout = 0")
                busy = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                self._writer.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")
                self._num_commits = 0
            if not busy:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)

    def scrub(self, *, rewrite: bool = True) -> None:
        """Make what was erased leave the disk: the file (`rewrite`) and the write-ahead log.

        `secure_delete` zeroes what is freed, but when rows are deleted or grow SQLite moves their neighbours between
        pages and leaves copies behind in the unused middle of a page; only rewriting the file (VACUUM) drops those.
        Rows that merely shrink move nobody: then the log is enough. Writers wait meanwhile (time in proportion to the
        file). A scrub that didn't come to its end (`mark_erasure`) is done at the next opening. Raises StoreError.
        """
        try:
            if rewrite:
                with self._commit:
                    self._writer.execute("PRAGMA temp_store = FILE")
                    self._writer.execute("VACUUM")
                    self._writer.execute("PRAGMA temp_store = MEMORY")
            if not self.truncate_log():
                raise StoreError(
                    f"what was erased has left the tables of {self.path}, but a reader holds the log, which still has"
                    " it; end that reader and open the store again"
                )
            self.write(lambda connection: connection.execute("PRAGMA user_version = 0"))
        except sqlite3.DatabaseError as error:
            raise _translated(error, self.path) from error

    def owes_scrub(self) -> bool:
        """Whether something was erased whose scrub didn't come to its end."""
        return self.rows("PRAGMA user_version") == [(1,)]

    def close(self) -> None:
        """Close every connection. Idempotent."""
        with self._commit:
            if self._closed:
                return
            self._closed = True
            self._writer.close()
            with self._readers_lock:
                for reader in list(self._readers):
                    reader.connection.close()


def _lengthen(log: Path) -> None:
    """Write zeros behind the log's end. Only with the write lock held: nobody else moves the end then.

    SQLite takes zeros for the end of the log (a frame needs a page number and a checksum), as it does in a log that it
    began anew within an older, longer one.
    """
    descriptor = os.open(log, os.O_WRONLY)
    try:
        size = os.fstat(descriptor).st_size
        if size < LOG_BYTES:
            os.pwrite(descriptor, bytes(LOG_BYTES - size), size)
    finally:
        os.close(descriptor)


def _make_private(path: Path) -> None:
    """Create the file readable by its owner only; SQLite gives the log the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(f"can't write {path}: {error}; give a home that you may write to") from error


def mark_erasure(connection: sqlite3.Connection) -> None:
    """Note, within the transaction that erases, that a scrub is due."""
    connection.execute("PRAGMA user_version = 1")


def _translated(error: sqlite3.Error, path: Path) -> TenureError:
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return StoreError(f"{path} stayed locked for {BUSY_SECONDS:.0f} s by another process; find it, then try again")
    return StoreError(f"{path}: {error}; nothing of this call was kept")


def _set_wal(connection: sqlite3.Connection) -> None:
    # Switching the mode takes an exclusive lock for which SQLite doesn't call the busy handler.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            if mode != "wal":
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreError(f"SQLite refuses write-ahead logging here (mode {mode}); use a local disk")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
