"""What the ledger writes comes back equal, and no two entries share a header."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.store import entries
from tenure.types import Feedback, FeedbackKind, Message, Scope, Turn

text = st.text(max_size=30)
name = st.text(min_size=1, max_size=10)
scope = st.builds(Scope, name, name, text)
number = st.floats(allow_nan=False, allow_infinity=False)
call = st.dictionaries(text, st.one_of(text, st.integers(-(2**53), 2**53), st.booleans(), st.none()), max_size=3)
message = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    text,
    st.none() | text,
    st.lists(call, max_size=2).map(tuple),
    st.none() | text,
)
strings = st.lists(text, max_size=3).map(tuple)
turn = st.builds(
    Turn,
    *(name, scope, text, number, st.lists(message, max_size=4).map(tuple), message, text, text),
    *(strings, strings, st.booleans(), text, st.dictionaries(text, text, max_size=3)),
)
feedback = st.builds(
    Feedback, name, scope, st.sampled_from(FeedbackKind), number, text, text, st.none() | number, text, text
)


@settings(max_examples=150, deadline=None)
@given(turn)
def test_a_turn_is_read_as_it_was_written(entry: Turn) -> None:
    assert entries.decode_turn(entries.encode(entry)) == entry


@settings(max_examples=100, deadline=None)
@given(feedback)
def test_feedback_is_read_as_it_was_written(entry: Feedback) -> None:
    assert entries.decode_feedback(entries.encode(entry)) == entry


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)] * 6))
def test_headers_are_unambiguous(parts: tuple[str, ...]) -> None:
    first, second = parts[:3], parts[3:]
    hashes = [entries.chained(entries.GENESIS, kind, id, 7, tenant, bytes(32)) for kind, id, tenant in (first, second)]
    assert (hashes[0] == hashes[1]) == (first == second)


def test_the_chain_is_what_the_documentation_says() -> None:
    link = entries.link(entries.GENESIS, "turn", "t1", 1, "acme", b"s" * 16, b"{}")
    commitment = hashlib.sha256(b"s" * 16 + b"{}").digest()
    header = b"tenure-entry-1\0turn\0t1\0" + b"1\0acme\0"
    assert link.commitment == commitment and link.content_digest == hashlib.sha256(b"{}").digest()
    assert link.hash == hashlib.sha256(bytes(32) + header + commitment).digest()


@given(turn)
@settings(max_examples=50, deadline=None)
def test_a_repeated_request_has_the_same_digest(entry: Turn) -> None:
    again = replace(entry, id="other", created_at=5.0, session="s", version="v", memory_ids=("m",))
    assert entries.request_digest(again) == entries.request_digest(entry)
    changed = replace(entry, reply=replace(entry.reply, content=entry.reply.content + "!"))
    assert entries.request_digest(changed) != entries.request_digest(entry)
