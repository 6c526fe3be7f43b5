"""A request as a door understands it, and the reply under way that it gets.

A `Reply` writes its turn when it ends, and says so by returning from `result`. Knows neither versions nor memory: the
runtime fills it in. Called by the runtime and its doors.
"""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tenure.model.generation import Generation
from tenure.model.requests import Completion, Sampling, TokenEvent
from tenure.store.digests import canonical_json, digest_bytes
from tenure.types import Message, Role, Scope, Turn

UNASKED = ("roles", "idempotency_key")
EVERYONE = frozenset({Role.CHAT, Role.FEEDBACK})
Parse = Callable[[str], tuple[str, tuple[Mapping[str, Any], ...]]]


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One request. `raw_prompt` replaces the chat template (for /v1/completions); `model` is a name or a digest.

    `passed_on` is the digest of the body that an upstream is handed, of which this knows but a part ("" elsewhere, and
    without an idempotency key).
    """

    messages: tuple[Message, ...]
    scope: Scope
    roles: frozenset[Role] = EVERYONE
    sampling: Sampling = field(default_factory=Sampling)
    model: str = "champion"
    session: str | None = None
    memory: bool = True
    learnable: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    idempotency_key: str = ""
    raw_prompt: str | None = None
    passed_on: str = ""


def asked_digest(call: ChatCall) -> str:
    """What a repeat of a request must agree on: all that shapes or keeps its reply, not how it is shown or to whom."""
    fields = {f.name: getattr(call, f.name) for f in dataclasses.fields(call) if f.name not in UNASKED}
    fields["sampling"] = replace(call.sampling, logprobs=None)
    return digest_bytes(canonical_json(fields))


@dataclass(frozen=True, slots=True)
class ChatResult:
    """A finished reply: the turn is durable in the ledger."""

    message: Message
    finish_reason: str
    completion: Completion
    num_prompt_tokens: int
    num_reply_tokens: int


def new_turn_id() -> str:
    """The id of a reply, by which feedback can name it days later."""
    return f"turn_{uuid.uuid4().hex}"


class Reply:
    """A reply under way. Iterate for its tokens; `result` waits for the end and for the ledger.

    `turn` is the turn as it stands before the model has spoken; `parse` takes tool calls out of the text; `keep` makes
    the finished turn durable.
    """

    def __init__(
        self, turn: Turn, model: str, generation: Generation, parse: Parse, keep: Callable[[Turn], str]
    ) -> None:
        self.id = turn.id
        self.created = turn.created_at
        self.model = model
        self.fingerprint = turn.version or turn.effective  # what an upstream said has no version of ours
        self.effective = turn.effective
        self.session = turn.session
        self.memory_ids = turn.memory_ids
        self.module_ids = turn.module_ids
        self._turn = turn
        self._generation = generation
        self._parse = parse
        self._keep = keep
        self._lock = threading.Lock()
        self._result: ChatResult | None = None

    def __iter__(self) -> Iterator[TokenEvent]:
        yield from self._generation

    def cancel(self) -> None:
        """Free the request's place at the next step; what was said so far is kept but never learned from."""
        self._generation.cancel()

    def result(self) -> ChatResult:
        """Wait for the end, write the turn, and return it; a second call returns the same."""
        with self._lock:
            if self._result is None:
                self._result = self._finish(self._generation.result())
            return self._result

    def _finish(self, completion: Completion) -> ChatResult:
        content, tool_calls = self._parse(completion.text)
        message = Message("assistant", content, tool_calls=tool_calls)
        ended = completion.finish_reason in ("stop", "length")
        turn = replace(
            self._turn,
            reply=message,
            learnable=self._turn.learnable and ended,
            finish_reason="tool_calls" if tool_calls else completion.finish_reason,
            num_prompt_tokens=completion.num_prompt_tokens,
            num_reply_tokens=len(completion.tokens),
        )
        self._keep(turn)
        return _result(turn, completion)


def _result(turn: Turn, completion: Completion) -> ChatResult:
    return ChatResult(turn.reply, turn.finish_reason, completion, turn.num_prompt_tokens, turn.num_reply_tokens)


class Replayed(Reply):
    """The reply that a repeated idempotency key already got: computed, written and counted once."""

    def __init__(self, turn: Turn, model: str) -> None:
        generation = Generation(lambda: False)
        text = turn.reply.content
        generation.put(TokenEvent(-1, text))
        generation.finish(Completion((), text, "stop", 0))
        super().__init__(turn, model, generation, lambda content: (content, ()), lambda kept: kept.id)

    def _finish(self, completion: Completion) -> ChatResult:
        return _result(self._turn, completion)
