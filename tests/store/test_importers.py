"""Importing real logs: streaming, resumable, bad records aside by number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenure.config import load_config
from tenure.errors import InputError
from tenure.store import importers
from tenure.store.importers import import_file
from tenure.store.library import Store
from tenure.store.records import read_records
from tenure.types import Memory, MemoryKind, Message, Scope, Turn

ANN = Scope("acme", "ann")
LOCOMO = Path(load_config().data) / "context" / "locomo" / "locomo_dev5.json"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home") as opened:
        yield opened


def said(*pairs: str) -> dict[str, object]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(pairs)]}


def lines(path: Path, *records: object) -> Path:
    texts = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(texts) + "\n", "utf8")
    return path


def turns(store: Store) -> list[Turn]:
    return [turn for _, turn in store.ledger.turns(scope=ANN)]


def test_openai_chat_lines(store: Store, tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    tools = {
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
            {"role": "assistant", "content": "It is 42."},
        ]
    }
    file = lines(tmp_path / "chat.jsonl", said("hi", "hello", "and?", "yes"), "", tools)
    seen = []
    done = import_file(store, file, scope=ANN, progress=lambda *told: seen.append(told))
    assert (done.num_turns, done.num_rejected, done.formats, done.rejected) == (4, 0, ("openai",), None)
    assert seen[-1] == ("import chat.jsonl", file.stat().st_size, file.stat().st_size)
    first, second, third, fourth = turns(store)
    assert (first.messages, first.reply) == ((Message("user", "hi"),), Message("assistant", "hello"))
    assert [message.content for message in second.messages] == ["hi", "hello", "and?"]
    assert first.session == second.session != third.session == fourth.session
    assert third.messages[0].role == "system" and third.messages[1].content == "look\n[image_url]"
    assert third.reply.tool_calls == (call,) and fourth.messages[-1].tool_call_id == "c1"
    assert first.source == "import" and first.learnable
    assert store.ledger.verify().num_entries == 4


@pytest.mark.parametrize("shape", ["array", "indented", "lines"])
def test_sharegpt_as_array_or_lines(store: Store, tmp_path: Path, shape: str) -> None:
    records = [
        {"id": "x1", "conversations": [{"from": "human", "value": "hi ]}"}, {"from": "gpt", "value": "hello, [you]"}]},
        {"system": "s", "conversations": [{"from": "gpt", "value": "Welcome"}, {"from": "human", "value": "bye"}]},
    ]
    file = tmp_path / "share.json"
    if shape == "lines":
        lines(file, *records)
    else:
        file.write_text(json.dumps(records, indent=2 if shape == "indented" else None), "utf8")
    done = import_file(store, file, scope=ANN, format="sharegpt")
    assert (done.num_turns, done.num_rejected, done.formats) == (2, 0, ("sharegpt",))
    first, second = turns(store)
    assert (first.messages[-1].content, first.reply.content) == ("hi ]}", "hello, [you]")
    assert first.metadata == {"record_id": "x1"}
    assert [message.content for message in second.messages] == ["s", "Welcome", "bye"]
    assert second.reply.content == "" and second.metadata["unanswered"] == "true"


def test_bad_records_are_kept_aside_by_number(store: Store, tmp_path: Path) -> None:
    file = lines(
        tmp_path / "chat.jsonl",
        *(said("a", "b"), "{broken", {"other": 1}, said("c", "d"), [1], said()),
        *({"messages": [{"role": "alien", "content": "x"}]}, {"messages": [{"role": "system", "content": "x"}]}),
        *({"messages": [{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": "y"}]}, said("e", "f")),
    )
    file.write_bytes(file.read_bytes() + b'{"messages": "\xff"}\n')
    done = import_file(store, file, scope=ANN)
    assert done.num_turns == 3 and [turn.reply.content for turn in turns(store)] == ["b", "d", "f"]
    assert done.rejected is not None and done.rejected.name == "chat.jsonl.rejected.jsonl"
    assert done.rejected.is_relative_to(store.home)
    aside = [json.loads(line) for line in done.rejected.read_text("utf8").splitlines()]
    assert [item["record"] for item in aside] == [2, 3, 5, 6, 7, 8, 9, 11] and done.num_rejected == 8
    assert aside[0]["text"] == "{broken" and all(item["error"] for item in aside)
    assert done.first_errors[0].startswith("record 2: not JSON")


def test_a_given_format_refuses_other_shapes(store: Store, tmp_path: Path) -> None:
    file = lines(tmp_path / "chat.jsonl", said("a", "b"))
    assert import_file(store, file, scope=ANN, format="sharegpt").num_rejected == 1
    with pytest.raises(InputError, match="auto"):
        import_file(store, file, scope=ANN, format="csv")
    with pytest.raises(InputError, match="missing"):
        import_file(store, tmp_path / "missing", scope=ANN)


def test_the_same_file_again_does_nothing_in_this_scope(store: Store, tmp_path: Path) -> None:
    file = lines(tmp_path / "chat.jsonl", said("a", "b"), "{broken", said("c", "d"))
    once = import_file(store, file, scope=ANN)
    again = import_file(store, file, scope=ANN)
    assert (again.num_turns, again.num_turns_before, again.num_rejected) == (2, 2, 1)
    assert again.rejected == once.rejected and len(turns(store)) == 2
    assert import_file(store, file, scope=Scope("acme", "bob")).num_turns == 2
    assert store.ledger.head() == 4


class Interrupted(Exception):
    """Raised by a progress that has seen enough."""


@pytest.mark.parametrize("shape", ["lines", "array"])
def test_an_interrupted_import_goes_on_where_it_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr(importers, "BATCH_TURNS", 10)
    records = [said(f"a{n}", f"b{n}") if n % 7 else {"bad": n} for n in range(100)]
    file = tmp_path / "chat.jsonl"
    file.write_text("\n".join(map(json.dumps, records)) if shape == "lines" else json.dumps(records), "utf8")

    def stop(*told: object) -> None:
        if store.ledger.head() >= 30:
            raise Interrupted

    with pytest.raises(Interrupted):
        import_file(store, file, scope=ANN, progress=stop)
    assert store.ledger.head() == 30
    # A batch whose bad records were put aside, but which was never committed.
    aside = next(store.home.glob("imports/*/*"))
    with aside.open("a") as opened:
        opened.write('{"record": 98, "error": "x", "text": "y"}\n{"torn')
    with Store.open(store.home) as later:
        done = import_file(later, file, scope=ANN)
    assert (done.num_turns, done.num_turns_before, done.num_rejected) == (85, 30, 15)
    assert [turn.reply.content for turn in turns(store)] == [f"b{n}" for n in range(100) if n % 7]
    numbers = [json.loads(line)["record"] for line in aside.read_text().splitlines()]
    assert numbers == [n + 1 for n in range(0, 100, 7)]


def test_what_is_noticed_is_kept_with_the_turn(store: Store, tmp_path: Path) -> None:
    def notice(turn: Turn) -> list[Memory]:
        text = turn.messages[-1].content
        return [Memory(f"m-{turn.id}", turn.scope, MemoryKind.TURN, text, (turn.id,), 1.0, 1.0)]

    import_file(store, lines(tmp_path / "chat.jsonl", said("the gate is green", "ok")), scope=ANN, notice=notice)
    assert [memory.text for memory in store.memories.search("gate", ANN)] == ["the gate is green"]


def test_records_are_read_one_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "big.json"
    long = "ö" * 300_000
    file.write_bytes(
        b"\xef\xbb\xbf" + json.dumps([{"a": long}, {"b": 1}, 3], ensure_ascii=False).encode("utf8") + b" x"
    )
    found = list(read_records(file))
    assert [record.number for record in found] == [1, 2, 3, 4]
    assert found[0].value == {"a": long} and found[1].value == {"b": 1}
    assert found[3].error and found[3].text == "x"
    file.write_text('{\n "messages": []\n}\n')
    assert [record.value for record in read_records(file)] == [{"messages": []}]
    file.write_text("")
    assert list(read_records(file)) == []


@pytest.mark.skipif(not LOCOMO.exists(), reason="the evaluation data isn't here")
def test_locomo_as_it_is_published(store: Store) -> None:
    records = json.loads(LOCOMO.read_text("utf8"))
    dialogues = {record["sample_id"]: record["conversation"] for record in records}
    texts = [
        message["text"]
        for dialogue in dialogues.values()
        for key, session in dialogue.items()
        if isinstance(session, list)
        for message in session
    ]
    done = import_file(store, LOCOMO, scope=ANN)
    assert done.num_rejected == 0 and done.formats == ("locomo",)
    kept = turns(store)
    assert len(kept) == done.num_turns
    # Every message is in the last turn of its session.
    last = {turn.session: turn for turn in kept}
    everything = {
        text.split(" [picture: ")[0]
        for turn in last.values()
        for m in (*turn.messages, turn.reply)
        for text in [m.content]
    }
    assert {text.split(" [picture: ")[0] for text in texts} <= everything
    first = kept[0]
    assert first.messages[0].content == "Caroline talks with Melanie, 1:56 pm on 8 May, 2023."
    assert first.messages[1] == Message("user", "Hey Mel! Good to see you! How have you been?", name="Caroline")
    assert first.metadata["marks"] == "D1:1,D1:2" and first.metadata["record_id"] == "conv-26"
    assert 1683554160 <= first.created_at < 1683554170
    marks = [mark for turn in kept for mark in turn.metadata["marks"].split(",")]
    assert len(marks) == len(texts)
    store.ledger.verify()
