"""Appending, reading, erasing and verifying experience."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tenure.errors import ChainBroken, IdempotencyClash, InputError, NotFound, StoreError
from tenure.store.library import Store
from tenure.types import Feedback, FeedbackKind, Memory, MemoryKind, Message, Scope, Turn

ANN = Scope("acme", "ann")
BOB = Scope("acme", "bob")
EVE = Scope("other", "eve", "desk")


def turn(id: str, scope: Scope = ANN, text: str = "hello", created_at: float = 1.0, **more: object) -> Turn:
    return replace(
        Turn(id, scope, "s1", created_at, (Message("user", text),), Message("assistant", f"re: {text}")), **more
    )


def rich_turn() -> Turn:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"ä": 1}'}}
    messages = (
        Message("system", "be brief"),
        Message("user", "snö \U0001f600 \x00 line\u2028", name="ann"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "42", tool_call_id="call_1"),
    )
    return Turn(
        *("rich", EVE, "s9", 3.25, messages, Message("assistant", "done")),
        version="v" * 64,
        effective="e" * 64,
        memory_ids=("m1",),
        module_ids=("x", "y"),
        learnable=False,
        source="import",
        metadata={"k": "v"},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store.open(tmp_path / "home") as opened:
        yield opened


def raw(store: Store, sql: str, *parameters: object) -> None:
    """Change the file behind the ledger's back."""
    connection = sqlite3.connect(store.home / "tenure.db")
    with connection:
        connection.execute(sql, parameters)
    connection.close()


def test_a_turn_comes_back_as_it_went_in(store: Store) -> None:
    assert store.ledger.append(rich_turn()) == "rich"
    assert store.ledger.turn("rich") == rich_turn()


def test_feedback_comes_back_in_order(store: Store) -> None:
    store.ledger.append(turn("t1"))
    said = [
        Feedback("f1", ANN, FeedbackKind.SCORE, 2.0, turn_id="t1", score=-0.5),
        Feedback("f2", ANN, FeedbackKind.CORRECTION, 3.0, turn_id="t1", text="no, Tuesday", source="user"),
        Feedback("f3", ANN, FeedbackKind.OUTCOME, 4.0, session="s1", score=1.0),
    ]
    for feedback in said:
        store.ledger.append(feedback)
    assert store.ledger.feedback_of("t1") == tuple(said[:2])
    assert [feedback for _, feedback in store.ledger.feedback()] == said


def test_turns_are_scope_exact_and_paged(store: Store) -> None:
    store.ledger.append_all([turn(f"t{number}", ANN if number % 3 else BOB) for number in range(1203)])
    ours = [seq for seq, _ in store.ledger.turns(scope=BOB)]
    assert len(ours) == 401 and ours == sorted(ours)
    assert [item.id for _, item in store.ledger.turns(scope=BOB, after=ours[-2])] == ["t1200"]
    assert len(list(store.ledger.turns())) == store.ledger.head() == 1203
    assert len(list(store.ledger.turns(limit=7))) == 7
    assert not list(store.ledger.turns(scope=Scope("acme", "ann", "x")))


def test_names_with_slashes_do_not_mix_scopes(store: Store) -> None:
    store.ledger.append(turn("t1", Scope("acme", "ann", "x/y")))
    assert not list(store.ledger.turns(scope=Scope("acme", "ann/x", "y")))


def test_recent_session(store: Store) -> None:
    store.ledger.append(turn("t1", created_at=100.0))
    store.ledger.append(turn("t2", BOB, created_at=200.0))
    latest = store.ledger.recent_session(ANN, 50.0)
    assert latest is not None and latest.id == "t1"
    assert store.ledger.recent_session(ANN, 100.5) is None
    assert store.ledger.recent_session(EVE, 0.0) is None


def test_idempotency_keys_belong_to_a_principal(store: Store) -> None:
    assert store.ledger.append(turn("t1"), idempotency_key="k") == "t1"
    assert store.ledger.append(turn("t2", created_at=9.0), idempotency_key="k") == "t1"
    assert store.ledger.append(turn("t3", BOB), idempotency_key="k") == "t3"
    with pytest.raises(IdempotencyClash, match="'k'"):
        store.ledger.append(turn("t4", text="other"), idempotency_key="k")
    assert store.ledger.repeated("acme/ann", "k") == "t1"
    assert store.ledger.head() == 2
    store.ledger.verify()


def test_record_is_one_transaction(store: Store) -> None:
    memory = Memory("m1", ANN, MemoryKind.FACT, "the valve is blue", ("t1",), 1.0, 1.0)
    assert store.record(turn("t1"), [memory], idempotency_key="k") == "t1"
    assert store.record(turn("t2"), [replace(memory, id="m2")], idempotency_key="k") == "t1"
    with pytest.raises(NotFound):
        store.memories.get("m2")
    with pytest.raises(StoreError, match="m1"):
        store.record(turn("t3"), [memory])
    with pytest.raises(NotFound):
        store.ledger.turn("t3")
    store.ledger.append(turn("t4"))
    assert store.ledger.verify().num_entries == 2


def test_bad_entries_are_refused_and_leave_nothing(store: Store) -> None:
    store.ledger.append(turn("t1"))
    with pytest.raises(StoreError, match="t1"):
        store.ledger.append(turn("t1", text="again"))
    with pytest.raises(StoreError, match="JSON"):
        store.ledger.append(turn("t2", metadata={"k": object()}))
    with pytest.raises(StoreError, match="JSON"):
        store.ledger.append(turn("t2", text="\ud800"))
    with pytest.raises(InputError):
        store.ledger.append(turn("a\0b"))
    store.ledger.append(turn("t5"))
    assert store.ledger.verify().num_entries == 2


def test_the_chain_verifies_per_tenant_and_after_reopening(store: Store) -> None:
    for number in range(5):
        store.ledger.append(turn(f"a{number}"))
        store.ledger.append(turn(f"e{number}", EVE))
    first = store.ledger.verify()
    assert first.num_entries == 10 and first.num_erased == 0 and set(first.heads) == {"acme", "other"}
    with Store.open(store.home) as again:
        again.ledger.append(turn("more"))
        second = again.ledger.verify()
    assert second.heads["other"] == first.heads["other"] and second.heads["acme"] != first.heads["acme"]
    # The first process sees that another one wrote between its own appends.
    store.ledger.append(turn("last"))
    seen = []
    assert store.ledger.verify(lambda done, total: seen.append((done, total))).num_entries == 12
    assert seen[-1] == (12, 12)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entries SET content = replace(content, 'hello', 'jello') WHERE id = 't2'",
        "UPDATE entries SET content = cast(replace(content, 'hello', 'jello') AS BLOB) WHERE id = 't2'",
        "UPDATE entries SET content = NULL, salt = NULL WHERE id = 't2'",
        "UPDATE entries SET content_digest = x'00' WHERE id = 't2'",
        "UPDATE entries SET salt = zeroblob(16) WHERE id = 't2'",
        "UPDATE entries SET commitment = zeroblob(32) WHERE id = 't2'",
        "UPDATE entries SET hash = zeroblob(32) WHERE id = 't2'",
        "UPDATE entries SET tenant = 'other' WHERE id = 't2'",
        "UPDATE entries SET kind = 'feedback' WHERE id = 't2'",
        "UPDATE entries SET principal = 'bob' WHERE id = 't2'",
        "UPDATE entries SET session = 's2' WHERE id = 't2'",
        "UPDATE entries SET turn_id = 't1' WHERE id = 't2'",
        "DELETE FROM entries WHERE id = 't2'",
        "DELETE FROM entries WHERE id = 't3'",
        "DELETE FROM heads",
    ],
)
def test_tampering_breaks_the_chain(store: Store, sql: str) -> None:
    for number in range(1, 4):
        store.ledger.append(turn(f"t{number}"))
    raw(store, sql)
    with pytest.raises(ChainBroken, match=r"t2|t3|acme"):
        store.ledger.verify()


def test_erasing_keeps_the_chain_and_nothing_else(store: Store) -> None:
    for number in range(4):
        store.ledger.append(turn(f"t{number}", text=f"hello {number}"), idempotency_key=f"hello {number}")
    store.ledger.append(Feedback("f1", ANN, FeedbackKind.COMMENT, 2.0, turn_id="t1", text="hm"))
    before = store.ledger.verify()
    assert store.ledger.erase(["t1", "f1", "unknown"], reason="asked") == 2
    assert store.ledger.erase(["t1"], reason="asked again") == 0
    after = store.ledger.verify()
    assert after.heads == before.heads and after.num_erased == 2 and after.num_entries == 5
    assert store.ledger.erased() == {"t1", "f1"}
    with pytest.raises(NotFound, match="erased"):
        store.ledger.turn("t1")
    assert [item.id for _, item in store.ledger.turns()] == ["t0", "t2", "t3"]
    assert store.ledger.feedback_of("t1") == () and not list(store.ledger.feedback())
    row = store.database.row("SELECT principal, member, session, created_at, salt FROM entries WHERE id = 't1'")
    assert row == (None,) * 5
    assert all(b"hello 1" not in path.read_bytes() for path in store.home.glob("tenure.db*"))
    # A late retry doesn't record anew what was erased.
    assert store.ledger.append(turn("t9", text="hello 1"), idempotency_key="hello 1") == "t1"


def test_forgetting_a_turn_takes_along_what_was_said_and_remembered_of_it(store: Store) -> None:
    store.record(turn("t1"), [Memory("m1", ANN, MemoryKind.TURN, "hello", ("t1",), 1.0, 1.0)])
    store.ledger.append(Feedback("f1", ANN, FeedbackKind.CORRECTION, 2.0, turn_id="t1", text="no"))
    store.memories.add(Memory("m2", ANN, MemoryKind.FACT, "no", ("f1",), 1.0, 1.0))
    store.record(turn("t2"), [Memory("m3", ANN, MemoryKind.TURN, "hello", ("t2",), 1.0, 1.0)])
    assert store.forget(["t1"], reason="asked") == (2, 2)
    assert store.ledger.erased() == {"t1", "f1"}
    assert [memory.id for memory in store.memories.of_scope(ANN)] == ["m3"]
    assert (store.home / "tenure.db").stat().st_mode & 0o777 == 0o600
    store.ledger.verify()


def test_many_threads_and_two_stores_lose_nothing(store: Store) -> None:
    errors = []

    def write(which: Store, name: str) -> None:
        try:
            for number in range(25):
                which.ledger.append(turn(f"{name}-{number}", EVE if number % 2 else ANN))
        except Exception as error:
            errors.append(error)

    with Store.open(store.home) as other:
        threads = [
            threading.Thread(target=write, args=(which, f"{label}{number}"))
            for label, which in (("a", store), ("b", other))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert store.ledger.verify().num_entries == 16 * 25


def test_one_bad_write_does_not_sink_its_group(store: Store) -> None:
    barrier, outcome = threading.Barrier(9), {}

    def write(number: int) -> None:
        barrier.wait()
        try:
            outcome[number] = store.ledger.append(turn("same" if number < 4 else f"own{number}"))
        except StoreError as error:
            outcome[number] = error

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    with store.database._commit:  # hold the commit back until all have queued: they share one transaction
        barrier.wait()
        while len(store.database._queue) < 8:
            pass
    for thread in threads:
        thread.join()
    kept = [id for id in outcome.values() if isinstance(id, str)]
    assert sorted(kept) == ["own4", "own5", "own6", "own7", "same"]
    assert store.ledger.verify().num_entries == 5
