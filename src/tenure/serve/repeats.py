"""A request that comes again under its Idempotency-Key: the first reply is given again, nothing is generated twice.

The ledger knows which turn a key belongs to; this module tells whether the request is the same and shows the stored
turn as a reply. Called by `chat.py` when a reply begins.
"""

from __future__ import annotations

from collections.abc import Iterator

from tenure.errors import IdempotencyClash
from tenure.model.requests import Completion, TokenEvent
from tenure.runtime import ChatCall, ChatResult, Runtime
from tenure.types import Turn

NO_TOKEN = -1


class StoredReply:
    """A turn of the ledger in the shape of a reply under way; it is over before it begins."""

    def __init__(self, turn: Turn, model: str) -> None:
        self.id = turn.id
        self.created = turn.created_at
        self.model = model
        self.fingerprint = turn.version
        self.effective = turn.effective
        self.session = turn.session
        self.memory_ids = turn.memory_ids
        self.module_ids = turn.module_ids
        reason = "tool_calls" if turn.reply.tool_calls else "stop"
        completion = Completion((), turn.reply.content, "stop", 0)
        self._result = ChatResult(turn.reply, reason, completion, 0, 0)

    def __iter__(self) -> Iterator[TokenEvent]:
        yield TokenEvent(NO_TOKEN, self._result.message.content)

    def cancel(self) -> None:
        """There is nothing to cancel."""

    def result(self) -> ChatResult:
        """The stored reply; it took no tokens this time."""
        return self._result


def repeated(runtime: Runtime, call: ChatCall) -> StoredReply | None:
    """The reply given before under this call's idempotency key, None when there is none.

    Raises IdempotencyClash when the key belongs to another request.
    """
    if not call.idempotency_key:
        return None
    turn_id = runtime.store.ledger.repeated(f"{call.scope.tenant}/{call.scope.principal}", call.idempotency_key)
    if turn_id is None:
        return None
    turn = runtime.store.ledger.turn(turn_id)
    if (turn.messages, turn.scope, dict(turn.metadata)) != (call.messages, call.scope, dict(call.metadata)):
        raise IdempotencyClash(
            f"idempotency key {call.idempotency_key!a} was used for another request ({turn_id}); take a new key"
        )
    return StoredReply(turn, call.model)
