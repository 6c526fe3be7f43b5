"""POST /v1/completions: plain continuation of a text, without chat template and without memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request, Response

from tenure.conversation import ChatCall, Reply
from tenure.model.requests import TokenEvent
from tenure.serve import replies, wire
from tenure.serve.access import ChatAsker
from tenure.serve.asked import completion_call
from tenure.serve.chat import begin, check_landed, once, provenance, reply_headers, usage_of
from tenure.serve.door import Door, door_of
from tenure.serve.flights import Flight, Landed
from tenure.serve.logprobs import old_logprobs
from tenure.serve.refusals import json_response
from tenure.serve.responses import streamed
from tenure.serve.sse import CLIENT_GONE, event_stream, landed_or_gone

router = APIRouter(tags=["chat"])


@router.post("/v1/completions", response_model=replies.TextReply, responses=streamed("text_completion"))
async def completions(request: Request, body: wire.CompletionBody, principal: ChatAsker) -> Response:
    """Continue a text, whole or as server-sent events (`stream`)."""
    door = door_of(request)
    if door.upstream is None:
        call = completion_call(request, body, principal, door.config.server)
    else:
        answered = await door.upstream.answered(request, body, principal)
        if isinstance(answered, Response):
            return answered
        call = answered
    flight = door.flights.launch(lambda: begin(door.runtime, call), streaming=bool(body.stream), once=once(call))
    if body.stream:
        try:
            reply = await flight.reply()
        except BaseException:
            flight.cancel()
            raise
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        chunks = _chunks(door, flight, reply, call, with_usage=with_usage)
        return event_stream(chunks, reply_headers(reply), on_close=flight.cancel)
    landed = await landed_or_gone(request, flight)
    if landed is None:
        return Response(status_code=CLIENT_GONE)
    door.meters.replied(landed)
    reply = await flight.reply()
    return json_response(200, _whole(door, reply, landed, call).model_dump(), reply_headers(reply))


def _whole(door: Door, reply: Reply, landed: Landed, call: ChatCall) -> replies.TextReply:
    result = check_landed(landed)
    logprobs = None
    if call.sampling.logprobs is not None:
        logprobs = old_logprobs(door.runtime.model.chat, landed.events, offset=len(call.raw_prompt or ""))
    choice = replies.TextChoice(
        index=0, text=result.message.content, logprobs=logprobs, finish_reason=result.finish_reason
    )
    return replies.TextReply(
        id=reply.id,
        created=int(reply.created),
        model=reply.model,
        system_fingerprint=reply.fingerprint,
        choices=[choice],
        usage=usage_of(result),
        tenure=provenance(reply),
    )


async def _chunks(
    door: Door, flight: Flight, reply: Reply, call: ChatCall, *, with_usage: bool
) -> AsyncGenerator[dict[str, Any]]:
    offset = len(call.raw_prompt or "")
    held: list[TokenEvent] = []

    def chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
        nonlocal offset
        logprobs = None
        if call.sampling.logprobs is not None and held:
            logprobs = old_logprobs(door.runtime.model.chat, held, offset=offset).model_dump()
        held.clear()
        offset += len(text)
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
        made = {
            "id": reply.id,
            "object": "text_completion",
            "created": int(reply.created),
            "model": reply.model,
            "system_fingerprint": reply.fingerprint,
            "choices": [choice],
        }
        return {**made, "usage": None} if with_usage else made

    try:
        yield {**chunk(""), "tenure": provenance(reply).model_dump()}
        async for event in flight.tokens():
            held.append(event)
            if event.text:
                yield chunk(event.text)
        landed = await flight.landed()
    finally:
        flight.cancel()  # does nothing to a reply that has ended
    door.meters.replied(landed)
    result = check_landed(landed)
    yield chunk("", result.finish_reason)
    if with_usage:
        yield {**chunk(""), "choices": [], "usage": usage_of(result).model_dump()}
