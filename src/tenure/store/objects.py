"""Artefacts as content-addressed files: `objects/<first two digits>/<digest>`, a directory or a single file.

An object appears whole or not at all: it is copied aside, synced, then renamed into place. Knows no database.
Called by the registry (are a version's artefacts there?), the night (put), the engine (path) and backups.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tenure.errors import InputError, NotFound, StoreError, TamperedObject
from tenure.store.digests import digest_bytes, digest_directory, digest_file
from tenure.store.tombstones import Tombstones, sync_directory

ABANDONED_SECONDS = 86_400.0
Data = bytes  # the class has a method of that name


class Objects:
    """The object store of one home. Safe for threads and processes: equal content lands under the same name."""

    def __init__(self, directory: Path, tombstones: Tombstones) -> None:
        self.directory = directory
        self._tombstones = tombstones
        self._incoming = directory / ".incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        # What a killed process left half-copied; younger ones may still be on their way.
        for left in self._incoming.iterdir():
            if left.lstat().st_mtime < time.time() - ABANDONED_SECONDS:
                _remove(left)

    def put_directory(self, directory: Path) -> str:
        """Keep a copy of a directory of plain files; returns its digest (`digest_directory`).

        Durable on return; equal content is kept once. Raises InputError for a missing or empty directory or one with
        links, StoreError when the disk fails.
        """
        if not directory.is_dir() or not any(path.is_file() for path in directory.rglob("*")):
            raise InputError(f"{directory} is not a directory with files; an artefact is one")
        aside = self._incoming / secrets.token_hex(8)
        try:
            if any(path.is_symlink() for path in directory.rglob("*")):
                raise InputError(f"{directory} holds a link; artefacts hold plain files only")
            shutil.copytree(directory, aside, copy_function=shutil.copyfile)
            # The digest is the copy's: what was hashed is what is kept, even if the source changes meanwhile.
            digest = digest_directory(aside)
            for path in [*aside.rglob("*"), aside]:
                _sync(path)
            return self._place(aside, digest)
        except OSError as error:
            raise StoreError(f"can't keep {directory} under {self.directory}: {error}; is the disk full?") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def put_bytes(self, data: Data) -> str:
        """Keep bytes as one file; returns their sha256. Durable on return."""
        digest = digest_bytes(data)
        aside = self._incoming / secrets.token_hex(8)
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            return self._place(aside, digest)
        except OSError as error:
            raise StoreError(f"can't keep {len(data)} bytes: {error}; is the disk full?") from error
        finally:
            aside.unlink(missing_ok=True)

    def _place(self, aside: Path, digest: str) -> str:
        place = self._place_of(digest)
        if digest in {tombstone.id for tombstone in self._tombstones.read() if tombstone.kind == "object"}:
            self._tombstones.add("object", [digest], reason="kept anew", lifted=True)
        if place.exists() and self._digest_at(place) == digest:
            return digest
        if place.exists():
            # Somebody broke the kept copy: put the sound one in its place.
            _remove(place)
        place.parent.mkdir(exist_ok=True)
        try:
            aside.rename(place)
        except OSError:
            # Another process was faster with the same content.
            if not place.exists():
                raise
        sync_directory(place.parent)
        sync_directory(self.directory)
        return digest

    def bytes(self, digest: str) -> Data:
        """The bytes kept under a digest, checked. Raises NotFound, TamperedObject."""
        place = self._existing(digest)
        if not place.is_file():
            raise NotFound(f"object {digest} is a directory; ask for its path")
        data = place.read_bytes()
        if digest_bytes(data) != digest:
            raise TamperedObject(f"object {digest} holds other bytes than its name says; restore it from a backup")
        return data

    def path(self, digest: str, *, check: bool = True) -> Path:
        """Where an object lies (read it, don't write there). `check` recomputes its digest.

        Raises NotFound, or TamperedObject when the content doesn't match.
        """
        place = self._existing(digest)
        if check and self._digest_at(place) != digest:
            raise TamperedObject(f"object {digest} holds other bytes than its name says; restore it from a backup")
        return place

    def __contains__(self, digest: str) -> bool:
        """Whether something lies under that digest; `path` checks what."""
        return self._place_of(digest).exists()

    def remove(self, digest: str, *, reason: str = "removed") -> None:
        """Delete an object; a backup restored later doesn't bring it back. Unknown digests are no error."""
        place = self._place_of(digest)
        self._tombstones.add("object", [digest], reason=reason)
        self.discard(place)

    def discard(self, place: Path) -> None:
        """Delete what lies at a place, if anything (the part of `remove` that restoring repeats)."""
        if place.exists():
            _remove(place)
            sync_directory(place.parent)

    def digests(self) -> Iterator[str]:
        """Every digest kept, in no order."""
        for shelf in self.directory.glob("[0-9a-f][0-9a-f]"):
            yield from (place.name for place in shelf.iterdir())

    def broken(self, progress: Callable[[int, int], None] | None = None) -> tuple[str, ...]:
        """The digests whose bytes don't match them, sorted; reads everything. `progress(num_done, num_all)`."""
        found = []
        digests = sorted(self.digests())
        for number, digest in enumerate(digests, 1):
            place = self._place_of(digest)
            # What was removed meanwhile isn't broken.
            if place.exists() and self._digest_at(place) != digest:
                found.append(digest)
            if progress is not None:
                progress(number, len(digests))
        return tuple(found)

    def place_of(self, digest: str) -> Path:
        """Where that digest lies or would lie."""
        return self._place_of(digest)

    def _existing(self, digest: str) -> Path:
        place = self._place_of(digest)
        if not place.exists():
            raise NotFound(f"no object {digest} in {self.directory}; it was removed or never kept")
        return place

    def _place_of(self, digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise NotFound(f"{digest!r} is not the digest of an object: 64 lower-case hex digits")
        return self.directory / digest[:2] / digest

    @staticmethod
    def _digest_at(place: Path) -> str:
        if place.is_file():
            return digest_file(place)
        try:
            return digest_directory(place)
        except ValueError:
            return "a link was put into it"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
