"""Turns and feedback as stored bytes, and the hash chain over them.

The bytes are JSON, written once; whatever is hashed later is the stored bytes, never a second serialisation.

    commitment_i = sha256(salt_i || content_i)
    hash_i       = sha256(hash_{i-1} || header_i || commitment_i),   hash_0 = 32 zero bytes, one chain per tenant
    header_i     = "tenure-entry-1" NUL kind NUL id NUL seq NUL tenant NUL

Knows no database. Called by the ledger, the importers and the benchmark's bulk path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tenure.errors import StoreError
from tenure.types import Feedback, FeedbackKind, Message, Scope, Turn

GENESIS = bytes(32)
SALT_BYTES = 16
TURN = "turn"
FEEDBACK = "feedback"

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class Link(NamedTuple):
    """What one entry adds to its tenant's chain. All sha256, raw bytes."""

    content_digest: bytes
    commitment: bytes
    hash: bytes


def link(previous: bytes, kind: str, id: str, seq: int, tenant: str, salt: bytes, content: bytes) -> Link:
    """The link of a new entry after `previous`."""
    commitment = hashlib.sha256(salt + content).digest()
    return Link(hashlib.sha256(content).digest(), commitment, chained(previous, kind, id, seq, tenant, commitment))


def chained(previous: bytes, kind: str, id: str, seq: int, tenant: str, commitment: bytes) -> bytes:
    """hash_i of the module docstring. No field may hold NUL (the ledger refuses it), so headers are unambiguous."""
    header = f"tenure-entry-1\0{kind}\0{id}\0{seq}\0{tenant}\0".encode()
    return hashlib.sha256(previous + header + commitment).digest()


# ---------------------------------------------------------------- bytes


def encode(entry: Turn | Feedback) -> bytes:
    """The bytes that the ledger keeps. Raises StoreError when a value isn't JSON or isn't valid Unicode."""
    fields = _turn_fields(entry) if isinstance(entry, Turn) else _feedback_fields(entry)
    return _bytes(entry.id, fields)


def request_digest(entry: Turn | Feedback) -> bytes:
    """sha256 of what a caller who repeats himself repeats: the entry without what the server made up (id, time,
    session, version, memories, modules, token counts). Two writes under one idempotency key must agree on it."""
    fields = _turn_fields(entry) if isinstance(entry, Turn) else _feedback_fields(entry)
    made_up = ("id", "created_at")
    of_turn = ("session", "version", "effective", "memory_ids", "module_ids", "num_prompt_tokens", "num_reply_tokens")
    for name in (*made_up, *of_turn) if isinstance(entry, Turn) else made_up:
        del fields[name]
    return hashlib.sha256(_bytes(entry.id, fields)).digest()


def _bytes(id: str, fields: Mapping[str, Any]) -> bytes:
    try:
        return _dumps(fields).encode("utf8")
    except (TypeError, ValueError) as error:
        raise StoreError(f"entry {id!r} can't be written as JSON: {error}; send plain JSON values") from error


def _scope_fields(scope: Scope) -> dict[str, str]:
    return {"tenant": scope.tenant, "principal": scope.principal, "user": scope.user}


def _message_fields(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_calls:
        fields["tool_calls"] = [dict(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _turn_fields(turn: Turn) -> dict[str, Any]:
    return {
        "kind": TURN,
        "id": turn.id,
        "scope": _scope_fields(turn.scope),
        "session": turn.session,
        "created_at": turn.created_at,
        "messages": [_message_fields(message) for message in turn.messages],
        "reply": _message_fields(turn.reply),
        "version": turn.version,
        "effective": turn.effective,
        "memory_ids": turn.memory_ids,
        "module_ids": turn.module_ids,
        "learnable": turn.learnable,
        "source": turn.source,
        "metadata": dict(turn.metadata),
        "asked": turn.asked,
        "finish_reason": turn.finish_reason,
        "num_prompt_tokens": turn.num_prompt_tokens,
        "num_reply_tokens": turn.num_reply_tokens,
    }


def _feedback_fields(feedback: Feedback) -> dict[str, Any]:
    return {
        "kind": FEEDBACK,
        "id": feedback.id,
        "scope": _scope_fields(feedback.scope),
        "feedback_kind": feedback.kind.value,
        "created_at": feedback.created_at,
        "turn_id": feedback.turn_id,
        "session": feedback.session,
        "score": feedback.score,
        "text": feedback.text,
        "source": feedback.source,
    }


def decode_turn(content: bytes) -> Turn:
    """The turn that `encode` wrote, today or when turns had fewer fields."""
    fields = json.loads(content)
    del fields["kind"]
    fields["scope"] = Scope(**fields["scope"])
    fields["messages"] = tuple(_message(message) for message in fields["messages"])
    fields["reply"] = _message(fields["reply"])
    fields["memory_ids"] = tuple(fields["memory_ids"])
    fields["module_ids"] = tuple(fields["module_ids"])
    return Turn(**fields)


def decode_feedback(content: bytes) -> Feedback:
    """The feedback that `encode` wrote."""
    fields = json.loads(content)
    fields["kind"] = FeedbackKind(fields.pop("feedback_kind"))
    fields["scope"] = Scope(**fields["scope"])
    return Feedback(**fields)


def _message(fields: dict[str, Any]) -> Message:
    if "tool_calls" in fields:
        fields["tool_calls"] = tuple(fields["tool_calls"])
    return Message(**fields)
