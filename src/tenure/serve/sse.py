"""Server-sent events: chunks as JSON, `[DONE]` at the end, an error in the middle as OpenAI's clients read it.

Leaving early, by disconnect or shutdown, cancels the flight. Knows no route's chunks; called by `chat.py`,
`completions.py` and `upstream.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

import anyio
from fastapi import Request, Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message

from tenure.serve.flights import Flight, Landed
from tenure.serve.refusals import refusal_of

PING_SECONDS = 15
SEND_TIMEOUT_SECONDS = 60.0
SHUTDOWN_GRACE_SECONDS = 20.0
CLIENT_GONE = 499

Chunk = BaseModel | Mapping[str, Any]


def as_json(chunk: Chunk) -> str:
    """A chunk on one line."""
    if isinstance(chunk, BaseModel):
        return chunk.model_dump_json()
    return json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))


def event_stream(
    chunks: AsyncGenerator[Chunk], headers: Mapping[str, str], *, on_close: Callable[[], None]
) -> Response:
    """Stream `chunks`; `[DONE]` follows only a stream that ended well, an error is its last event.

    `on_close` is called when the client leaves early, even before the first chunk was asked for.
    """

    async def close(_: Message) -> None:
        on_close()

    return EventSourceResponse(
        _events(chunks),
        headers=headers,
        sep="\n",
        ping=PING_SECONDS,
        send_timeout=SEND_TIMEOUT_SECONDS,
        client_close_handler_callable=close,
        # a stopping server lets streams finish within the grace period
        shutdown_event=anyio.Event(),
        shutdown_grace_period=SHUTDOWN_GRACE_SECONDS,
    )


async def _events(chunks: AsyncGenerator[Chunk]) -> AsyncIterator[ServerSentEvent]:
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield ServerSentEvent(as_json(chunk))
        yield ServerSentEvent("[DONE]")
    except Exception as error:  # the stream's edge: the status is sent already
        yield ServerSentEvent(as_json(refusal_of(error)[1]))


async def landed_or_gone(request: Request, flight: Flight) -> Landed | None:
    """Wait for a whole reply; None when the client went away first, after the flight was cancelled and kept."""
    gone = asyncio.ensure_future(_gone(request))
    landing = asyncio.ensure_future(flight.landed())
    try:
        await asyncio.wait({gone, landing}, return_when=asyncio.FIRST_COMPLETED)
        if landing.done():
            return landing.result()
        flight.cancel()
        await landing
        return None
    except BaseException:
        flight.cancel()
        raise
    finally:
        gone.cancel()
        landing.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
