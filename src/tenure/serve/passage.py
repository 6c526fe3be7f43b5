"""One request's passage through the proxy: what goes out, what comes back, and the turn that is kept of it.

Reads and writes JSON in OpenAI's form and touches no network; `upstream.py` does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenure.context.recall import Recall
from tenure.conversation import ChatCall, asked_digest
from tenure.errors import UpstreamError
from tenure.runtime import Runtime
from tenure.serve import wire
from tenure.store.digests import canonical_json, digest_bytes
from tenure.types import Message, Turn

OWN_FIELDS = ("memory",)  # ours alone: an upstream might refuse what it doesn't know


@dataclass(slots=True)
class Said:
    """What the upstream has said so far (its first choice)."""

    content: list[str] = field(default_factory=list)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    fingerprint: str = ""
    model: str = ""
    finish_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)


class Passage:
    """One request under way. `ended`: the finish reason came; `kept`: the turn is durable."""

    def __init__(
        self, runtime: Runtime, endpoint: str, call: ChatCall, recall: Recall, outgoing: dict[str, Any]
    ) -> None:
        self.id = f"turn_{uuid.uuid4().hex}"
        self.created = time.time()
        self.outgoing = outgoing
        self.kept = False
        self._runtime = runtime
        self._endpoint = endpoint
        self._call = call
        self._memory_ids = tuple(memory.id for memory in recall.memories)
        self._session = call.session or runtime.session_of(call.scope, call.messages, self.created)
        self._said = Said()
        self._told = False

    @property
    def once(self) -> str:
        """What must not be under way twice: the principal's idempotency key."""
        key, scope = self._call.idempotency_key, self._call.scope
        return f"{scope.tenant}/{scope.principal} {key}" if key else ""

    @property
    def ended(self) -> bool:
        """Whether the finish reason has come."""
        return self._said.finish_reason is not None

    @property
    def said(self) -> bool:
        """Whether anything was said."""
        return bool(self._said.content or self._said.tool_calls)

    @property
    def usage(self) -> dict[str, int]:
        """The tokens that the upstream counted; 0 where it told none (streams tell only when asked)."""
        usage = self._said.usage
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        return {
            "num_prompt": usage.get("prompt_tokens") or 0,
            "num_cached": cached or 0,
            "num_reply": usage.get("completion_tokens") or 0,
        }

    def headers(self) -> dict[str, str]:
        """Session and, once it is known, what answered."""
        return {"X-Request-Id": self.id, "X-Session-Id": self._session, "X-Tenure-Effective": self._effective()}

    def _effective(self) -> str:
        """Names what answered as far as the upstream tells it: its address, the model asked for, its fingerprint."""
        parts = {"upstream": self._endpoint, "model": self._call.model, "fingerprint": self._said.fingerprint}
        return digest_bytes(canonical_json(parts))

    def _provenance(self) -> dict[str, Any]:
        return {
            "effective": self._effective(),
            "session": self._session,
            "memory_ids": list(self._memory_ids),
            "modules": [],
        }

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The upstream's whole answer with our id and provenance; what it says is noted. Raises UpstreamError."""
        try:
            choice = answer["choices"][0]
            message = choice["message"] if self._call.raw_prompt is None else {"content": choice["text"]}
            self._said.content.append(message.get("content") or "")
            self._said.tool_calls.update(enumerate(message.get("tool_calls") or ()))
            self._said.finish_reason = choice.get("finish_reason") or "stop"
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise UpstreamError(
                f"the upstream {self._endpoint} answered without a choice; is it OpenAI's API?"
            ) from error
        self._said.fingerprint = answer.get("system_fingerprint") or ""
        self._said.usage = answer.get("usage") or {}
        return {**answer, **self._own(), "tenure": self._provenance()}

    def chunk(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """One chunk of a stream with our id. Raises UpstreamError when it is an error."""
        if chunk.get("error"):
            raise UpstreamError(f"the upstream {self._endpoint} failed in the middle of its answer: {chunk['error']}")
        self._said.fingerprint = chunk.get("system_fingerprint") or self._said.fingerprint
        self._said.usage = chunk.get("usage") or self._said.usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                self._note(choice)
        chunk.pop("tenure", None)
        if self._told:
            return {**chunk, **self._own()}
        self._told = True
        return {**chunk, **self._own(), "tenure": self._provenance()}

    def _own(self) -> dict[str, str]:
        """Our id, and the upstream's fingerprint or, where it gives none, what is known of what answered."""
        return {"id": self.id, "system_fingerprint": self._said.fingerprint or self._effective()}

    def _note(self, choice: Mapping[str, Any]) -> None:
        text = self._call.raw_prompt is not None
        delta: Mapping[str, Any] = {"content": choice.get("text")} if text else choice.get("delta") or {}
        if delta.get("content"):
            self._said.content.append(delta["content"])
        for part in delta.get("tool_calls") or ():
            call = self._said.tool_calls.setdefault(
                part.get("index", 0), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            call["id"] = part.get("id") or call["id"]
            function = part.get("function") or {}
            call["function"]["name"] += function.get("name") or ""
            call["function"]["arguments"] += function.get("arguments") or ""
        self._said.finish_reason = choice.get("finish_reason") or self._said.finish_reason

    def keep(self) -> None:
        """Write the turn. Cut-off ones are kept but never learned from."""
        calls = tuple(call for _, call in sorted(self._said.tool_calls.items()))
        turn = Turn(
            id=self.id,
            scope=self._call.scope,
            session=self._session,
            created_at=self.created,
            messages=self._call.messages,
            reply=Message("assistant", "".join(self._said.content), tool_calls=calls),
            effective=self._effective(),
            memory_ids=self._memory_ids,
            learnable=self._call.learnable and self.ended,
            source="proxy",
            metadata=dict(self._call.metadata),
            asked=asked_digest(self._call) if self._call.idempotency_key else "",
            finish_reason=self._said.finish_reason or "cancelled",
            num_prompt_tokens=self.usage["num_prompt"],
            num_reply_tokens=self.usage["num_reply"],
        )
        # What was cut off is no answer to a repeat: that is asked anew.
        self._runtime.keep(turn, idempotency_key=self._call.idempotency_key if self.ended else "")
        self.kept = True


def begin_passage(runtime: Runtime, endpoint: str, call: ChatCall, raw: Mapping[str, Any]) -> Passage:
    """Choose what memory adds and write the outgoing request. Blocks on the store."""
    recall = runtime.recall(call)
    outgoing = {key: value for key, value in raw.items() if key not in OWN_FIELDS}
    if call.raw_prompt is None:
        outgoing["messages"] = with_notes(raw["messages"], call.messages, recall.messages)
    return Passage(runtime, endpoint, call, recall, outgoing)


def words_of(message: wire.ChatMessage) -> Message:
    """A message as the ledger keeps it: its words. What isn't words (images) passes on but isn't kept."""
    content = message.content or ""
    if not isinstance(content, str):
        content = "\n".join(part.text for part in content if part.text)
    calls = tuple(dict(wire.plain(call)) for call in message.tool_calls or ())
    return Message(message.role, content, message.name, calls, message.tool_call_id)


def with_notes(raw: Sequence[Mapping[str, Any]], before: Sequence[Message], after: Sequence[Message]) -> list[Any]:
    """The raw messages with what recall wrote into them (`before` became `after`).

    What recall left alone goes out as it came; the message that it rewrote keeps its parts other than text.
    """
    came = {id(message): wire_message for message, wire_message in zip(before, raw, strict=True)}
    kept = {id(message) for message in after}
    rewritten = [message for message in before if id(message) not in kept]
    written: list[Any] = []
    for message in after:
        old = next((m for m in rewritten if m.role == message.role and m.content in message.content), None)
        if id(message) in came:
            written.append(came[id(message)])
        elif old is not None:
            written.append(_rewritten(came[id(old)], message.content))
        else:
            written.append({"role": message.role, "content": message.content})
    return written


def _rewritten(came: Mapping[str, Any], content: str) -> dict[str, Any]:
    if not isinstance(came.get("content"), list):
        return {**came, "content": content}
    others = [part for part in came["content"] if part.get("type") != "text"]
    return {**came, "content": [{"type": "text", "text": content}, *others]}
