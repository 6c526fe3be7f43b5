"""Backups: one consistent archive of a home, taken while others write; and the way back, past later deletions.

A backup is a tar (gzipped when the name ends in `.gz` or `.tgz`) that holds a snapshot of the database, the objects,
the keys (the signing key too: keep the archive as safe as the home) and the tombstones.

Deletions made since the backup stay deleted, because what restoring brings back is met by tombstones: those in the
archive, those in the home restored into (its `tombstones.jsonl` is never overwritten, only added to), and those of a
file given with `tombstones` (for a new home: copy `tombstones.jsonl` off the machine, it holds names and no content).
A restore into a new home without that file cannot know of later deletions; the result says so (`num_tombstones`).

Knows no table. Called by the command line.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenure.errors import InputError, StoreError
from tenure.store.library import DATABASE, KEYS, OBJECTS, TOMBSTONES, Store
from tenure.store.tombstones import Tombstones, sync_directory

PAGES_PER_STEP = 2000


@dataclass(frozen=True, slots=True)
class Backup:
    """What an archive holds."""

    path: Path
    num_bytes: int
    num_entries: int
    num_objects: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back. Of the `num_tombstones` deletions known, the archive didn't know `num_deleted_again`."""

    home: Path
    num_entries: int
    num_erased: int
    num_objects: int
    num_tombstones: int
    num_deleted_again: int


def backup(store: Store, target: Path) -> Backup:
    """Write an archive of the store to `target`; it appears whole or not at all.

    The database is copied page by page from one snapshot (SQLite's backup API), then the objects that it may need:
    objects are never changed in place, so those written meanwhile do no harm. Raises InputError when `target` exists,
    StoreError when the disk fails.
    """
    if target.exists():
        raise InputError(f"{target} exists; give another name for the backup")
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    num_objects = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tenure-backup-") as folder:
            copy = Path(folder) / DATABASE
            num_entries = _copy_database(store, copy)
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                with tarfile.open(fileobj=file, mode=_mode(target)) as archive:
                    archive.add(copy, DATABASE)
                    for digest in sorted(store.objects.digests()):
                        num_objects += _add(archive, store.objects.place_of(digest), f"{OBJECTS}/{digest[:2]}/{digest}")
                    _add(archive, store.home / KEYS, KEYS)
                    _add(archive, store.home / TOMBSTONES, TOMBSTONES)
                file.flush()
                os.fsync(file.fileno())
        aside.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise StoreError(f"can't write the backup {target}: {error}; is the disk full?") from error
    finally:
        aside.unlink(missing_ok=True)
    return Backup(target, target.stat().st_size, num_entries, num_objects)


def _mode(target: Path) -> Literal["w", "w:gz"]:
    return "w:gz" if target.suffix in (".gz", ".tgz") else "w"


def _copy_database(store: Store, copy: Path) -> int:
    """Copy one snapshot; returns how many entries it holds."""
    destination = sqlite3.connect(copy)
    try:
        # Holding a read transaction makes every step read the same state, so that writers never restart the copy.
        with store.database.snapshot() as source:
            num_entries = source.execute("SELECT count(*) FROM entries").fetchone()[0]
            source.backup(destination, pages=PAGES_PER_STEP)
        return int(num_entries)
    finally:
        destination.close()


def _add(archive: tarfile.TarFile, path: Path, name: str) -> bool:
    """Add a file or directory; False when it was removed meanwhile (a deletion that the tombstones know)."""
    try:
        archive.add(path, name)
    except FileNotFoundError:
        return False
    return True


def restore(archive: Path, home: Path, *, tombstones: Path | None = None) -> Restored:
    """Bring a home back from an archive that `backup` wrote, without what was deleted since.

    The home's database is replaced: what was kept since the backup is gone (back the home up first if you want it).
    Its objects stay and those of the archive are added. How deletions made since stay deleted: tombstones, as the
    module's docstring says; they are applied before this returns. Raises InputError (not such an archive), StoreError
    (the home is open in another process, or the disk fails).
    """
    if not archive.is_file():
        raise InputError(f"no backup at {archive}; give the file that `tenure backup` wrote")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    _require_unused(home / DATABASE)
    aside = home / f".restore-{secrets.token_hex(4)}"
    try:
        _unpack(archive, aside)
        known = Tombstones(home / TOMBSTONES)
        for source in (aside / TOMBSTONES, *([tombstones] if tombstones else [])):
            there = set(known.latest())
            known.put(stone for stone in Tombstones(source).latest() if stone not in there)
        _put_in_place(aside, home)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise StoreError(f"can't restore {archive}: {error}; make room or take another archive, then again") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    with Store.open(home) as store:
        row = store.database.row("SELECT count(*), count(*) - count(content) FROM entries") or (0, 0)
        num_objects = len(list(store.objects.digests()))
        num_tombstones = len(store.tombstones.read())
        return Restored(home, row[0], row[1], num_objects, num_tombstones, store.num_deleted_again)


def _require_unused(database: Path) -> None:
    """Raise StoreError when another connection has the database open. Leaves no log behind."""
    if not database.exists():
        return
    connection = sqlite3.connect(database, timeout=0)
    try:
        # Leaving WAL takes every lock there is.
        connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        raise StoreError(f"{database} is open in another process ({error}); stop it, then restore") from error
    except sqlite3.DatabaseError:
        # A broken database is a good reason to restore.
        return
    finally:
        connection.close()


def _unpack(archive: Path, aside: Path) -> None:
    with tarfile.open(archive) as content:
        # "data" refuses links and names that lead outside.
        content.extractall(aside, filter="data")
    if not (aside / DATABASE).is_file():
        raise InputError(f"{archive} holds no {DATABASE}; give the file that `tenure backup` wrote")


def _put_in_place(aside: Path, home: Path) -> None:
    for found in (aside / OBJECTS).glob("*/*"):
        place = home / OBJECTS / found.parent.name / found.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            found.rename(place)
    (home / KEYS).mkdir(exist_ok=True, mode=0o700)
    for found in (aside / KEYS).glob("*"):
        # The restored attestations were signed with the archived key.
        found.rename(home / KEYS / found.name)
    for name in (f"{DATABASE}-wal", f"{DATABASE}-shm"):
        (home / name).unlink(missing_ok=True)
    (aside / DATABASE).rename(home / DATABASE)
    sync_directory(home)
