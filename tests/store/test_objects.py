"""Artefacts by content: whole or not at all, and never with other bytes than their name says."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenure.errors import InputError, NotFound, TamperedObject
from tenure.store.digests import digest_bytes, digest_directory
from tenure.store.library import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home") as opened:
        yield opened


def artefact(directory: Path, text: str = "weights") -> Path:
    (directory / "deep").mkdir(parents=True)
    (directory / "adapter.bin").write_text(text)
    (directory / "deep" / "config.json").write_text("{}")
    return directory


def test_a_directory_is_kept_under_its_digest(store: Store, tmp_path: Path) -> None:
    source = artefact(tmp_path / "a")
    digest = store.objects.put_directory(source)
    assert digest == digest_directory(source) == store.objects.put_directory(source)
    assert (store.objects.path(digest) / "deep" / "config.json").read_text() == "{}"
    assert list(store.objects.digests()) == [digest]
    assert not list((store.home / "objects" / ".incoming").iterdir())


def test_bytes_are_kept_under_their_digest(store: Store) -> None:
    digest = store.objects.put_bytes(b"abc")
    assert digest == digest_bytes(b"abc") and store.objects.bytes(digest) == b"abc"
    with pytest.raises(NotFound):
        store.objects.bytes("0" * 64)
    with pytest.raises(NotFound):
        store.objects.path("../../etc/passwd")


def test_tampering_is_seen_and_healed_by_keeping_anew(store: Store, tmp_path: Path) -> None:
    source = artefact(tmp_path / "a")
    digest = store.objects.put_directory(source)
    (store.objects.path(digest) / "adapter.bin").write_text("changed")
    with pytest.raises(TamperedObject, match=digest):
        store.objects.path(digest)
    assert store.objects.path(digest, check=False).is_dir()
    whole = store.objects.put_bytes(b"whole")
    seen: list[tuple[int, int]] = []
    assert store.objects.broken(lambda *told: seen.append(told)) == (digest,) and whole != digest
    assert seen == [(1, 2), (2, 2)]
    assert store.objects.put_directory(source) == digest
    assert (store.objects.path(digest) / "adapter.bin").read_text() == "weights"
    (store.objects.path(digest) / "link").symlink_to("/etc/passwd")
    with pytest.raises(TamperedObject):
        store.objects.path(digest)


def test_links_and_empty_directories_are_refused(store: Store, tmp_path: Path) -> None:
    source = artefact(tmp_path / "a")
    (source / "link").symlink_to("/etc/passwd")
    (tmp_path / "empty").mkdir()
    for bad in (source, tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(InputError):
            store.objects.put_directory(bad)
    assert not list(store.objects.digests())


def test_removed_objects_stay_removed_unless_kept_anew(store: Store, tmp_path: Path) -> None:
    source = artefact(tmp_path / "a")
    digest = store.objects.put_directory(source)
    store.objects.remove(digest)
    store.objects.remove(digest)
    with pytest.raises(NotFound):
        store.objects.path(digest)
    store.objects.put_directory(source)
    with Store.open(store.home) as again:
        assert again.objects.path(digest)


def test_many_threads_keep_the_same_content_once(store: Store, tmp_path: Path) -> None:
    source = artefact(tmp_path / "a", "w" * 100_000)
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(store.objects.put_directory(source))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8 and len(set(digests)) == 1
    assert store.objects.path(digests[0])


def test_what_a_killed_process_left_half_copied_goes(store: Store) -> None:
    incoming = store.home / "objects" / ".incoming"
    for name in ("old", "new"):
        (incoming / name).mkdir()
        (incoming / name / "part.bin").write_bytes(b"half")
    os.utime(incoming / "old", (0, 0))
    with Store.open(store.home):
        assert [path.name for path in incoming.iterdir()] == ["new"]
