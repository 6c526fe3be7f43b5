"""Memories: searched in one scope only, superseded, and truly erased."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenure.errors import NotFound, StoreError
from tenure.store.library import Store
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
    """Words like `zqx17y` occur once each; after erasing, neither file nor log nor index holds them."""
    chance = random.Random(4)
    for number in range(400):
        word = f"zqx{number:04d}y"
        filler = " ".join(chance.choices(["alpha", "beta", "gamma", "delta"], k=chance.randrange(2, 120)))
        turn = Turn(f"t{number}", ANN, "s", 1.0, (Message("user", f"{word} {filler}"),), Message("assistant", word))
        store.record(turn, [memory(f"m{number}", f"{word} {filler}", source_ids=(turn.id,))])
    assert store.memories.search("zqx0007y", ANN)
    victims = chance.sample(range(400), 150)
    for start in range(0, 150, 30):
        batch = victims[start : start + 30]
        assert store.forget([f"t{number}" for number in batch], reason="asked") == (30, 30)
        left = bytes_of(store.home)
        assert [number for number in victims[: start + 30] if f"zqx{number:04d}y".encode() in left] == []
    assert all(f"zqx{number:04d}y".encode() in left for number in set(range(400)) - set(victims))
    assert store.memories.search("zqx0007y", ANN) or 7 in victims
    assert store.ledger.verify().num_erased == 150
    assert store.memories.erase(["m0", "nobody"]) == (0 if 0 in victims else 1)
