"""Other people's logs as conversations: OpenAI chat, ShareGPT and LoCoMo records.

One record (a line of JSONL, an element of a JSON array) becomes one or more conversations. Raises InputError with the
reason for a record that can't be used; knows neither files nor the ledger. Called by the importers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tenure.errors import InputError
from tenure.types import Message

ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order. `name` tells conversations of one record apart; `created_at` None: not told.

    `marks` has one string a message (where it is in the source), or none.
    """

    name: str
    messages: tuple[Message, ...]
    created_at: float | None = None
    marks: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def conversations_of(record: Any, format: str) -> tuple[str, list[Conversation]]:
    """(format, conversations) of a record; with format "auto" its shape decides. Raises InputError."""
    if not isinstance(record, dict):
        raise InputError(f"a record is a JSON object, this is a {type(record).__name__}")
    found = format if format != "auto" else format_of(record)
    return found, PARSERS[found](record)


def format_of(record: Mapping[str, Any]) -> str:
    """The format whose shape a record has. Raises InputError."""
    if "messages" in record:
        return "openai"
    if "conversations" in record:
        return "sharegpt"
    if isinstance(record.get("conversation"), dict):
        return "locomo"
    raise InputError('no "messages" (OpenAI), "conversations" (ShareGPT) or "conversation" (LoCoMo) in it')


def openai_conversations(record: Mapping[str, Any]) -> list[Conversation]:
    """{"messages": [{"role", "content", "name"?, "tool_calls"?, "tool_call_id"?}]}."""
    messages = tuple(_openai_message(message) for message in _list(record, "messages"))
    return [Conversation("", messages)]


def _openai_message(fields: Any) -> Message:
    if not isinstance(fields, dict) or fields.get("role") not in ROLES:
        raise InputError(f"a message needs a role out of {', '.join(sorted(ROLES))}: {str(fields)[:80]}")
    calls = fields.get("tool_calls") or []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise InputError(f"tool_calls is a list of objects: {str(calls)[:80]}")
    role = str(fields["role"]).replace("developer", "system").replace("function", "tool")
    name, call_id = (_string_or_none(fields, key) for key in ("name", "tool_call_id"))
    return Message(role, _content(fields.get("content")), name=name, tool_calls=tuple(calls), tool_call_id=call_id)


def _content(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        # Text parts as they are; a picture or sound leaves its kind, so that the text reads on.
        return "\n".join(str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]" for part in content)
    raise InputError(f"content is text or a list of parts: {str(content)[:80]}")


def sharegpt_conversations(record: Mapping[str, Any]) -> list[Conversation]:
    """{"id"?, "conversations": [{"from", "value"}]}, with an optional "system" beside them."""
    system = _string_or_none(record, "system")
    messages = [Message("system", system)] if system else []
    for fields in _list(record, "conversations"):
        role = SHAREGPT_ROLES.get(str(fields.get("from")).lower()) if isinstance(fields, dict) else None
        if role is None or not isinstance(fields.get("value"), str):
            raise InputError(f'a message needs a known "from" and a text "value": {str(fields)[:80]}')
        messages.append(Message(role, fields["value"]))
    metadata = {"record_id": str(record["id"])} if "id" in record else {}
    return [Conversation("", tuple(messages), metadata=metadata)]


def locomo_conversations(record: Mapping[str, Any]) -> list[Conversation]:
    """One conversation a session: speaker_a is the user, speaker_b the assistant, both by name; the session's date goes
    before them as a system message, a shared picture's caption behind its text. `marks` are the dia_ids."""
    content = record.get("conversation")
    if not isinstance(content, dict) or not {"speaker_a", "speaker_b"} <= content.keys():
        raise InputError('a LoCoMo record has a "conversation" with speaker_a and speaker_b')
    roles = {content["speaker_a"]: "user", content["speaker_b"]: "assistant"}
    found = []
    number = 1
    while f"session_{number}" in content or f"session_{number}_date_time" in content:
        said = content.get(f"session_{number}") or []
        date = str(content.get(f"session_{number}_date_time", ""))
        if said:
            opening = Message("system", f"{content['speaker_a']} talks with {content['speaker_b']}, {date}.")
            messages = (opening, *(_locomo_message(fields, roles) for fields in said))
            marks = ("", *(str(fields.get("dia_id", "")) for fields in said))
            metadata = {"record_id": str(record.get("sample_id", "")), "date": date}
            found.append(Conversation(f"session_{number}", messages, _locomo_time(date), marks, metadata))
        number += 1
    if not found:
        raise InputError("a LoCoMo conversation has session_1, session_2 ...; this one has none with messages")
    return found


def _locomo_message(fields: Any, roles: Mapping[str, str]) -> Message:
    if not isinstance(fields, dict) or fields.get("speaker") not in roles or not isinstance(fields.get("text"), str):
        raise InputError(f"a LoCoMo message needs one of the two speakers and a text: {str(fields)[:80]}")
    caption = fields.get("blip_caption")
    text = f"{fields['text']} [picture: {caption}]" if caption else fields["text"]
    return Message(roles[fields["speaker"]], text, name=fields["speaker"])


def _locomo_time(date: str) -> float | None:
    try:
        return datetime.strptime(date, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list) or not value:
        raise InputError(f'"{key}" is a list with at least one message')
    return value


def _string_or_none(fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{key} is text: {str(value)[:80]}")
    return value


PARSERS: Mapping[str, Callable[[Mapping[str, Any]], list[Conversation]]] = {
    "openai": openai_conversations,
    "sharegpt": sharegpt_conversations,
    "locomo": locomo_conversations,
}
