"""Memories: searched in one scope only, superseded, and truly erased."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest

from tenure.errors import NotFound, StoreError
from tenure.store.database import Database
from tenure.store.library import Store
from tenure.store.memories import erase_memories
from tenure.types import Memory, MemoryKind, Message, Scope, Turn

ANN = Scope("acme", "ann")
DESK = Scope("acme", "ann", "desk")
BOB = Scope("acme", "bob")


def memory(id: str, text: str, scope: Scope = ANN, **more: object) -> Memory:
    return replace(Memory(id, scope, MemoryKind.FACT, text, ("t1",), 1.0, 1.0), **more)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home") as opened:
        yield opened


def bytes_of(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.glob("tenure.db*"))


def test_a_memory_comes_back_as_it_went_in(store: Store) -> None:
    kept = memory("m1", "Snö & ice", DESK, kind=MemoryKind.EVENT, source_ids=("t1", "f1"), valid_to=9.0)
    assert store.memories.add(kept) == "m1"
    assert store.memories.get("m1") == kept
    assert store.memories.of_scope(DESK) == (kept,)
    assert store.memories.of_source("f1") == (kept,) and store.memories.of_source("f2") == ()
    with pytest.raises(NotFound):
        store.memories.get("m2")
    with pytest.raises(StoreError, match="m1"):
        store.memories.add(kept)


def test_search_is_scope_exact_and_ranked(store: Store) -> None:
    store.memories.add(memory("m1", "The valves of the Halden pump are painted blue."))
    store.memories.add(memory("m2", "The pump is old."))
    store.memories.add(memory("m3", "Lunch is at noon."))
    store.memories.add(memory("b1", "The Halden pump valve is red.", BOB))
    store.memories.add(memory("d1", "Halden pump: ask desk.", DESK))
    found = store.memories.search("which colour has the valve of the Halden pump?", ANN)
    assert [item.id for item in found][:2] == ["m1", "m2"]
    assert found[0].score > found[1].score > 0
    assert [item.id for item in store.memories.search("painting", ANN)] == ["m1"]  # stemmed
    assert [item.id for item in store.memories.search("HALDEN", DESK)] == ["d1"]
    assert store.memories.search("Halden", Scope("acme", "carl")) == ()
    assert len(store.memories.search("the pump is", ANN, limit=1)) == 1


def test_ranking_does_not_depend_on_other_scopes(store: Store) -> None:
    store.memories.add(memory("m1", "kestrel tariff"))
    store.memories.add(memory("m2", "kestrel harbour"))
    store.memories.add(memory("m3", "harbour crane"))
    before = [item.id for item in store.memories.search("kestrel tariff harbour", ANN)]
    for number in range(50):
        store.memories.add(memory(f"b{number}", "tariff tariff", BOB))
    assert [item.id for item in store.memories.search("kestrel tariff harbour", ANN)] == before


def test_words_that_are_everywhere_do_not_find_everything(store: Store) -> None:
    for number in range(30):
        store.memories.add(memory(f"m{number}", f"the pump is item{number}"))
    assert [item.id for item in store.memories.search("the pump item7", ANN)] == ["m7"]
    assert len(store.memories.search("the pump unheard", ANN)) == 8


@pytest.mark.parametrize(
    "query",
    [
        *('" OR 1=1 --', "AND OR NOT NEAR(", "scope : s1", "{scope} : s2", "body:*", "a* ^b + - ( ) '", "\x00\x01", ""),
        *("'; DROP TABLE memories; --", "\ud800 lone", "🦊", "s1", "a" * 100_000, "x " * 100_000, "*", "é" * 5000),
    ],
)
def test_hostile_queries_find_nothing_and_break_nothing(store: Store, query: str) -> None:
    store.memories.add(memory("m1", "plain fact"))
    store.memories.add(memory("b1", "plain secret", BOB))
    assert store.memories.search(query, ANN) == ()
    assert [item.id for item in store.memories.search(query + " plain", ANN)] in (["m1"], [])


def test_superseded_memories_stay_but_do_not_answer(store: Store) -> None:
    store.memories.add(memory("m1", "The gate code is 1234."))
    store.memories.add(memory("m2", "The gate code is 9876."))
    store.memories.supersede("m1", "m2", at=5.0)
    assert [item.id for item in store.memories.search("gate code", ANN)] == ["m2"]
    assert {item.id for item in store.memories.search("gate code", ANN, superseded=True)} == {"m1", "m2"}
    old = store.memories.get("m1")
    assert (old.valid_to, old.superseded_by) == (5.0, "m2")
    with pytest.raises(NotFound):
        store.memories.supersede("m1", "m9", at=5.0)


def test_erased_text_is_gone_from_the_files(store: Store) -> None:
    """Words like `zqx0017y` stand in one turn and its memory; after erasing, no file holds them.

    Texts from one word to many pages, in several scopes, superseded and erased in any order: SQLite moves rows between
    pages then, and must not leave copies of them behind.
    """
    chance, alive, gone, number = random.Random(9), set[int](), set[int](), 0
    for _ in range(4):
        for _ in range(100):
            word = f"zqx{number:04d}y"
            text, scope = f"{word} " * chance.choice([1, 3, 40, 400, 2500]), Scope(*chance.choices("ab", k=3))
            turn = Turn(f"t{number}", scope, "s", 1.0, (Message("user", text),), Message("assistant", word))
            kept = memory(f"m{number}", text[:4000], scope, source_ids=(turn.id,))
            store.record(turn, [kept], idempotency_key=text)
            alive.add(number)
            number += 1
        for old in chance.sample(sorted(alive), 10):
            store.memories.supersede(f"m{old}", f"m{chance.choice(sorted(alive))}", at=5.0)
        victims = chance.sample(sorted(alive), 40)
        assert store.forget([f"t{victim}" for victim in victims], reason="asked") == (40, 40)
        alive, gone = alive.difference(victims), gone.union(victims)
        left = bytes_of(store.home)
        assert [number for number in sorted(gone) if f"zqx{number:04d}y".encode() in left] == []
        assert all(f"zqx{number:04d}y".encode() in left for number in alive)
    assert store.ledger.verify().num_erased == 160
    some = store.memories.get(f"m{min(alive)}")
    assert store.memories.search(some.text, some.scope, superseded=True) == (replace(some, score=ANY),)


def test_a_scrub_that_was_cut_short_is_done_at_the_next_opening(store: Store) -> None:
    store.memories.add(memory("m1", "zqx0001y"))
    store.memories.add(memory("m2", "zqx0002y"))
    store.tombstones.add("memory", ["m1"], reason="asked")
    store.database.write(lambda connection: erase_memories(connection, ["m1"], "asked"))
    store.close()  # as a kill between erasing and scrubbing would leave it
    with Store.open(store.home) as again:
        assert not again.database.owes_scrub()
        left = bytes_of(store.home)
        assert b"zqx0001y" not in left and b"zqx0002y" in left


def test_a_reader_that_holds_the_log_is_told_about(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database.truncate_log, "__kwdefaults__", {"seconds": 0.1})
    store.memories.add(memory("m1", "zqx0001y"))
    with Store.open(store.home) as other, other.database.snapshot() as connection:
        connection.execute("SELECT count(*) FROM memories").fetchone()
        with pytest.raises(StoreError, match="reader"):
            store.memories.erase(["m1"])
        assert store.memories.search("zqx0001y", ANN) == ()
    assert store.memories.erase(["m1"]) == 0
    assert b"zqx0001y" not in bytes_of(store.home)
