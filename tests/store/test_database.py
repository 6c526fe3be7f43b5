"""The file itself: its schema, its settings, and several processes at once."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tenure.errors import StoreError
from tenure.store import schema
from tenure.store.database import LOG_BYTES, Database
from tenure.store.library import Store


@pytest.fixture
def open_database(tmp_path: Path):  # type: ignore[no-untyped-def]
    opened = Database(tmp_path / "x.db")
    yield opened
    opened.close()


def test_the_settings_that_durability_and_erasure_rest_on(open_database: Database) -> None:
    for connection in (open_database.reader(), open_database._writer):
        values = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "secure_delete", "busy_timeout")
        ]
        assert values == ["wal", 2, 1, 60_000]


def test_readers_cannot_write(open_database: Database) -> None:
    with pytest.raises(StoreError, match="readonly"):
        open_database.rows("INSERT INTO erasures VALUES ('x', 'entry', '', 1.0) RETURNING id")


def test_migrations_are_recorded_with_their_hash_and_only_added(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder)
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    Database(tmp_path / "x.db").close()
    number = len(schema.known_migrations()) + 1
    (folder / f"{number:04d}_more.sql").write_text(
        "CREATE TABLE more (a TEXT DEFAULT ';');\nCREATE TABLE most (a TEXT);\n"
    )
    newer = Database(tmp_path / "x.db")
    assert newer.rows("SELECT count(*) FROM more, most") == [(0,)]
    assert newer.rows("SELECT max(number) FROM migrations") == [(number,)]
    newer.close()
    (folder / f"{number:04d}_more.sql").write_text("CREATE TABLE other (a TEXT);\n")
    with pytest.raises(StoreError, match="differs"):
        Database(tmp_path / "x.db")
    (folder / f"{number:04d}_more.sql").unlink()
    with pytest.raises(StoreError, match="newer"):
        Database(tmp_path / "x.db")


def test_a_failed_migration_leaves_the_old_schema(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder)
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    Database(tmp_path / "x.db").close()
    broken = folder / "0099_broken.sql"
    broken.write_text("CREATE TABLE half (a TEXT);\nCREATE TABLE half (a TEXT);\n")
    with pytest.raises(StoreError, match="half"):
        Database(tmp_path / "x.db")
    broken.unlink()
    again = Database(tmp_path / "x.db")
    assert again.rows("SELECT 1 FROM sqlite_master WHERE name = 'half'") == []
    again.close()


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tenure.db").write_bytes(b"not a database at all, but long enough" * 40)
    with pytest.raises(StoreError, match=r"tenure\.db"):
        Store.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="home"):
        Store.open(tmp_path / "file")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    store.close()
    for call in (store.ledger.head, lambda: store.nights.queue({}, asked_by="x")):
        with pytest.raises(StoreError, match="closed"):
            call()


def test_the_log_is_lengthened_once_and_cut_on_demand(open_database: Database, tmp_path: Path) -> None:
    log = tmp_path / "x.db-wal"

    def note(number: int) -> None:
        row = (f"x{number}", "entry", "", 1.0)
        open_database.write(
            lambda c: c.execute("INSERT INTO erasures (id, kind, reason, erased_at) VALUES (?,?,?,?)", row)
        )

    for number in range(20):
        note(number)
    assert log.stat().st_size == LOG_BYTES
    assert open_database.truncate_log() and log.stat().st_size == 0
    for number in range(20, 40):
        note(number)
    # Another process recovers the lengthened log as if it ended at its last commit.
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("x.db", "x.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    connection = sqlite3.connect(copy / "x.db")
    assert connection.execute("SELECT count(*) FROM erasures").fetchone() == (40,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_reader_of_an_old_state_keeps_the_log(open_database: Database) -> None:
    with open_database.snapshot() as connection:
        connection.execute("SELECT count(*) FROM erasures").fetchone()
        row = ("x", "entry", "", 1.0)
        work = threading.Thread(
            target=open_database.write, args=(lambda c: c.execute("INSERT INTO erasures VALUES (?, ?, ?, ?)", row),)
        )
        work.start()
        work.join()
        assert connection.execute("SELECT count(*) FROM erasures").fetchone() == (0,)
        assert not open_database.truncate_log(seconds=0.1)
    assert open_database.truncate_log(seconds=0.1)


class DawdlingLock:
    """A lock after whose release its holder dawdles, so that others get between it and what it does next."""

    def __init__(self, seed: int) -> None:
        self._lock, self._chance = threading.Lock(), random.Random(seed)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        time.sleep(self._chance.uniform(0, 0.002))


def test_writers_that_crowd_in_are_all_answered(open_database: Database) -> None:
    open_database._mutex = DawdlingLock(3)  # type: ignore[assignment]
    answers: list[int] = []

    def write(name: int) -> None:
        for number in range(20):
            answers.append(open_database.write(lambda _, value=name * 20 + number: value))

    threads = [threading.Thread(target=write, args=(name,), daemon=True) for name in range(16)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    for thread in threads:
        thread.join(timeout=max(0.0, deadline - time.monotonic()))
    assert sorted(answers) == list(range(16 * 20))


PROCESS = """
    import sys
    from pathlib import Path
    from tenure.store.library import Store
    from tenure.types import Message, Scope, Turn

    with Store.open(Path(sys.argv[1])) as store:
        for number in range(60):
            scope = Scope("acme", sys.argv[2])
            turn = Turn(f"{sys.argv[2]}-{number}", scope, "s", 1.0, (Message("user", "x"),), Message("assistant", "y"))
            store.ledger.append(turn)
"""


def test_processes_that_start_together_share_one_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROCESS), str(tmp_path / "home")]
    started = [subprocess.Popen([*command, f"p{number}"]) for number in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    with Store.open(tmp_path / "home") as store:
        assert store.ledger.verify().num_entries == 240
