"""POST /v1/chat/completions: the main door, whole or streamed.

The reply's id is the turn's id. The chunk with the finish reason leaves only after the turn is durable in the ledger.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request, Response

from tenure.conversation import ChatCall, ChatResult, Reply
from tenure.errors import ModelError, NotFound
from tenure.model.requests import TokenEvent
from tenure.runtime import Runtime
from tenure.serve import replies, wire
from tenure.serve.access import ChatAsker
from tenure.serve.asked import chat_call
from tenure.serve.door import Door, door_of
from tenure.serve.flights import Flight, Landed
from tenure.serve.logprobs import chat_logprobs
from tenure.serve.refusals import Stopping, UnknownModel, json_response
from tenure.serve.responses import streamed
from tenure.serve.sse import CLIENT_GONE, event_stream, landed_or_gone

router = APIRouter(tags=["chat"])


def begin(runtime: Runtime, call: ChatCall) -> Reply:
    """Start a reply. What isn't found at this point is the model: raises UnknownModel, and what the runtime raises."""
    try:
        return runtime.chat(call)
    except NotFound as error:
        raise UnknownModel(str(error)) from error


def once(call: ChatCall) -> str:
    """What must not be under way twice: a principal's idempotency key."""
    return f"{call.scope.tenant}/{call.scope.principal} {call.idempotency_key}" if call.idempotency_key else ""


def reply_headers(reply: Reply) -> dict[str, str]:
    """Session and provenance, for clients that don't look into the body."""
    return {
        "X-Request-Id": reply.id,
        "X-Session-Id": reply.session,
        "X-Tenure-Version": reply.fingerprint,
        "X-Tenure-Effective": reply.effective,
    }


def provenance(reply: Reply) -> replies.Provenance:
    """What really answered and what it used."""
    return replies.Provenance(
        effective=reply.effective,
        session=reply.session,
        memory_ids=list(reply.memory_ids),
        modules=list(reply.module_ids),
    )


def usage_of(result: ChatResult) -> replies.Usage:
    """Tokens of prompt and reply."""
    return replies.Usage(
        prompt_tokens=result.num_prompt_tokens,
        completion_tokens=result.num_reply_tokens,
        total_tokens=result.num_prompt_tokens + result.num_reply_tokens,
        prompt_tokens_details=replies.CachedTokens(cached_tokens=result.completion.num_cached_tokens),
    )


def check_landed(landed: Landed) -> ChatResult:
    """The result, unless the engine failed or the server stops. Raises ModelError, Stopping."""
    if landed.result.finish_reason == "error":
        raise ModelError(f"the engine failed while it answered: {landed.result.completion.error}")
    if landed.result.finish_reason == "cancelled":
        raise Stopping("the server is stopping and gave this reply up; ask again")
    return landed.result


@router.post("/v1/chat/completions", response_model=replies.ChatReply, responses=streamed("chat.completion.chunk"))
async def chat(request: Request, body: wire.ChatBody, principal: ChatAsker) -> Response:
    """Answer a conversation, whole or as server-sent events (`stream`)."""
    door = door_of(request)
    if door.upstream is None:
        call = chat_call(request, body, principal, door.config.server)
    else:
        answered = await door.upstream.answered(request, body, principal)
        if isinstance(answered, Response):
            return answered
        call = answered
    flight = door.flights.launch(lambda: begin(door.runtime, call), streaming=bool(body.stream), once=once(call))
    if body.stream:
        return await _streamed(door, flight, call, body)
    landed = await landed_or_gone(request, flight)
    if landed is None:
        return Response(status_code=CLIENT_GONE)
    door.meters.replied(landed)
    reply = await flight.reply()
    return json_response(200, _whole(door, reply, landed, call).model_dump(), reply_headers(reply))


def _whole(door: Door, reply: Reply, landed: Landed, call: ChatCall) -> replies.ChatReply:
    result = check_landed(landed)
    calls = [replies.ToolCall.model_validate(c) for c in result.message.tool_calls] or None
    message = replies.ChatMessage(
        role="assistant", content=result.message.content or ("" if calls is None else None), tool_calls=calls
    )
    wanted = call.sampling.logprobs is not None
    logprobs = chat_logprobs(door.runtime.model.chat, landed.events) if wanted else None
    choice = replies.ChatChoice(index=0, message=message, logprobs=logprobs, finish_reason=result.finish_reason)
    return replies.ChatReply(
        id=reply.id,
        created=int(reply.created),
        model=reply.model,
        system_fingerprint=reply.fingerprint,
        choices=[choice],
        usage=usage_of(result),
        tenure=provenance(reply),
    )


async def _streamed(door: Door, flight: Flight, call: ChatCall, body: wire.ChatBody) -> Response:
    try:
        reply = await flight.reply()  # refused before the first byte: with the right status
    except BaseException:
        flight.cancel()
        raise
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    return event_stream(
        _chunks(door, flight, reply, call, with_usage=with_usage), reply_headers(reply), on_close=flight.cancel
    )


async def _chunks(
    door: Door, flight: Flight, reply: Reply, call: ChatCall, *, with_usage: bool
) -> AsyncGenerator[dict[str, Any]]:
    chunks = Chunks(door, reply, call, with_usage=with_usage)
    try:
        yield chunks.first()
        async for event in flight.tokens():
            chunk = chunks.token(event)
            if chunk is not None:
                yield chunk
        landed = await flight.landed()
    finally:
        flight.cancel()  # does nothing to a reply that has ended
    door.meters.replied(landed)
    result = check_landed(landed)
    for chunk in chunks.last(result):
        yield chunk


class Chunks:
    """The chunks of one streamed reply.

    With tools on offer text is held back until the reply is whole: only then is it known what is call and what is text.
    """

    def __init__(self, door: Door, reply: Reply, call: ChatCall, *, with_usage: bool) -> None:
        self._door = door
        self._reply = reply
        self._holding = bool(call.tools)
        self._logprobs = call.sampling.logprobs is not None
        self._with_usage = with_usage
        self._held: list[TokenEvent] = []

    def first(self) -> dict[str, Any]:
        """Who speaks, and what really answers."""
        chunk = self._chunk({"role": "assistant", "content": ""})
        return {**chunk, "tenure": provenance(self._reply).model_dump()}

    def token(self, event: TokenEvent) -> dict[str, Any] | None:
        """New text, or nothing when it is held back or there is none yet."""
        self._held.append(event)
        if self._holding or not event.text:
            return None
        return self._chunk({"content": event.text}, logprobs=self._take_logprobs())

    def last(self, result: ChatResult) -> list[dict[str, Any]]:
        """What was held back, the finish reason, and the usage when it was asked for."""
        chunks = []
        if self._holding and result.message.content:
            chunks.append(self._chunk({"content": result.message.content}, logprobs=self._take_logprobs()))
        calls = [{"index": i, **call} for i, call in enumerate(result.message.tool_calls)]
        chunks += [self._chunk({"tool_calls": [call]}) for call in calls]
        chunks.append(self._chunk({}, finish_reason=result.finish_reason, logprobs=self._take_logprobs()))
        if self._with_usage:
            chunks.append({**self._chunk({}), "choices": [], "usage": usage_of(result).model_dump()})
        return chunks

    def _take_logprobs(self) -> dict[str, Any] | None:
        events, self._held = self._held, []
        if not self._logprobs or not events:
            return None
        return chat_logprobs(self._door.runtime.model.chat, events).model_dump()

    def _chunk(
        self, delta: dict[str, Any], *, finish_reason: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = {
            "id": self._reply.id,
            "object": "chat.completion.chunk",
            "created": int(self._reply.created),
            "model": self._reply.model,
            "system_fingerprint": self._reply.fingerprint,
            "choices": [choice],
        }
        return {**chunk, "usage": None} if self._with_usage else chunk
