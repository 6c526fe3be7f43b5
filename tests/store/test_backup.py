"""Backups are consistent while others write; what was deleted since stays deleted when they come back."""

from __future__ import annotations

import shutil
import tarfile
import threading
import time
from pathlib import Path

import pytest

from tenure.errors import AccessError, InputError, NotFound, StoreError
from tenure.store.backup import backup, restore
from tenure.store.library import Store
from tenure.types import Alias, DeltaRef, Memory, MemoryKind, Message, Role, Scope, Turn, Version

ANN = Scope("acme", "ann")
BASE = Version("b" * 64, "t" * 64, "c" * 64, "bf16")


def keep(store: Store, number: int) -> None:
    text = f"zqx{number:04d}y is said"
    turn = Turn(f"t{number}", ANN, "s", 1.0, (Message("user", text),), Message("assistant", "yes"))
    store.record(turn, [Memory(f"m{number}", ANN, MemoryKind.TURN, text, (turn.id,), 1.0, 1.0)])


def bytes_of(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz", "b.tgz"])
def test_a_backup_brings_everything_back(tmp_path: Path, name: str) -> None:
    with Store.open(tmp_path / "home") as store:
        keep(store, 1)
        digest = store.objects.put_bytes(b"weights")
        token = store.keys.create("acme", "ann", [Role.CHAT])
        base = store.registry.found(BASE)
        store.registry.attest(base, "note", {"n": 1})
        made = backup(store, tmp_path / "deep" / name)
        before = store.ledger.verify()
        with pytest.raises(InputError, match="exists"):
            backup(store, tmp_path / "deep" / name)
    assert (made.num_entries, made.num_objects) == (1, 1) and made.num_bytes == made.path.stat().st_size
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in made.path.parent.iterdir()] == [name]
    restored = restore(made.path, tmp_path / "new")
    assert (restored.num_entries, restored.num_erased, restored.num_objects) == (1, 0, 1)
    with Store.open(tmp_path / "new") as store:
        assert store.ledger.verify() == before
        assert store.objects.bytes(digest) == b"weights"
        assert store.keys.authenticate(token).name == "ann"
        assert store.registry.attestations(base)[0].payload == {"n": 1}
        assert [memory.id for memory in store.memories.search("zqx0001y", ANN)] == ["m1"]


def deleted_since(store: Store, archive: Path) -> dict[str, str]:
    """Fill a store, back it up, then delete one thing of each kind."""
    for number in range(4):
        keep(store, number)
    store.registry.found(BASE)
    names = {
        "object": store.objects.put_bytes(b"zqxweights"),
        "anew": store.objects.put_bytes(b"kept anew"),
        "token": store.keys.create("acme", "ann", [Role.CHAT]),
        "version": store.registry.put(Version("b" * 64, "t" * 64, "c" * 64, "bf16", deltas=(DeltaRef("d" * 64),))),
    }
    store.registry.challenge(names["version"])
    store.objects.remove(names["anew"])
    backup(store, archive)
    store.objects.put_bytes(b"kept anew")
    assert store.forget(["t1", "t2"], reason="asked") == (2, 2)
    store.objects.remove(names["object"])
    store.keys.revoke(store.keys.list()[0].id)
    store.registry.revoke(names["version"], reason="forgotten data")
    keep(store, 9)
    return names


def require_deleted(home: Path, names: dict[str, str]) -> None:
    with Store.open(home) as store:
        verified = store.ledger.verify()
        assert (verified.num_entries, verified.num_erased) == (4, 2)
        assert store.ledger.erased() == {"t1", "t2"}
        assert [memory.id for memory in store.memories.of_scope(ANN)] == ["m0", "m3"]
        with pytest.raises(NotFound):
            store.objects.path(names["object"])
        with pytest.raises(AccessError):
            store.keys.authenticate(names["token"])
        assert store.registry.is_revoked(names["version"])
        assert store.registry.alias(Alias.CHALLENGER) is None
    left = bytes_of(home)
    assert b"zqx0000y" in left and b"zqx0001y" not in left and b"zqx0002y" not in left and b"zqxweights" not in left


def test_restoring_into_the_home_repeats_later_deletions(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        names = deleted_since(store, tmp_path / "b.tar")
        with pytest.raises(StoreError, match="stop it"):
            restore(tmp_path / "b.tar", tmp_path / "home")
    restored = restore(tmp_path / "b.tar", tmp_path / "home")
    assert restored.num_erased == 2 and restored.num_deleted_again == 7 and restored.num_entries == 4
    require_deleted(tmp_path / "home", names)
    with Store.open(tmp_path / "home") as store:
        assert store.objects.bytes(names["anew"]) == b"kept anew"
        assert store.num_deleted_again == 0
        keep(store, 10)
        store.ledger.verify()


def test_restoring_elsewhere_takes_tombstones_along(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        names = deleted_since(store, tmp_path / "b.tar")
    restored = restore(tmp_path / "b.tar", tmp_path / "new", tombstones=tmp_path / "home" / "tombstones.jsonl")
    assert restored.num_erased == 2
    require_deleted(tmp_path / "new", names)


def test_an_old_database_put_back_by_hand_meets_the_tombstones(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        for number in range(3):
            keep(store, number)
    shutil.copy(tmp_path / "home" / "tenure.db", tmp_path / "old.db")
    with Store.open(tmp_path / "home") as store:
        store.forget(["t1"], reason="asked")
    shutil.copy(tmp_path / "old.db", tmp_path / "home" / "tenure.db")
    with Store.open(tmp_path / "home") as store:
        assert store.ledger.erased() == {"t1"} and store.num_deleted_again == 2
    assert b"zqx0001y" not in bytes_of(tmp_path / "home")


def test_a_backup_is_consistent_while_others_write(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        stop = threading.Event()

        def write(name: int) -> None:
            number = name * 100_000
            while not stop.is_set():
                keep(store, number)
                number += 1

        writers = [threading.Thread(target=write, args=(name,)) for name in range(3)]
        for writer in writers:
            writer.start()
        made = []
        for number in range(3):
            time.sleep(0.1)
            made.append(backup(store, tmp_path / f"b{number}.tar"))
        stop.set()
        for writer in writers:
            writer.join()
    assert made[0].num_entries < made[2].num_entries
    for number, one in enumerate(made):
        assert restore(one.path, tmp_path / f"new{number}").num_entries == one.num_entries
        with Store.open(tmp_path / f"new{number}") as store:
            assert store.ledger.verify().num_entries == one.num_entries
            assert len(store.memories.of_scope(ANN)) == one.num_entries


def test_what_is_no_backup_is_refused_and_the_home_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        keep(store, 1)
    (tmp_path / "rubbish.tar").write_bytes(b"rubbish" * 1000)
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(tmp_path / "rubbish.tar", "rubbish")
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.add(tmp_path / "rubbish.tar", "../../evil")
    for bad in ("missing.tar", "rubbish.tar", "other.tar", "evil.tar"):
        with pytest.raises((InputError, StoreError)):
            restore(tmp_path / bad, tmp_path / "home")
    assert not (tmp_path.parent / "evil").exists()
    with Store.open(tmp_path / "home") as store:
        assert store.ledger.verify().num_entries == 1
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["keys", "objects", "tenure.db"]
