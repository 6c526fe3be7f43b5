"""The limit on request bodies, kept before anything is parsed: 413 in OpenAI's shape.

An ASGI layer: it counts what is received and knows no route. The limits on context and queue live where they are known:
in the engine and in `flights.py`.
"""

from __future__ import annotations

import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenure.serve.refusals import TooLarge, json_response, refusal_of


class BodyLimit:
    """Answers 413 when a body is, or says that it will be, larger than `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        if said.isdigit() and int(said) > self.max_bytes:
            await self._refuse(scope, receive, send, int(said))
            return
        num_bytes = 0
        over = False
        started = False

        async def counted() -> Message:
            nonlocal num_bytes, over
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.max_bytes:
                over = True
                raise TooLarge("over the limit")
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if over:  # whatever the route made of it, the answer is 413
                return
            started = True
            await send(message)

        with contextlib.suppress(TooLarge):
            await self.app(scope, counted, watched)
        if over and not started:
            await self._refuse(scope, receive, send, num_bytes)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, num_bytes: int) -> None:
        error = TooLarge(
            f"the body has {num_bytes} bytes or more and the limit is {self.max_bytes}; "
            "send less, or raise server.max_body_bytes"
        )
        status, body, headers = refusal_of(error)
        # the rest of the body is not read, so this connection can't carry another request
        await json_response(status, body, {**headers, "Connection": "close"})(scope, receive, send)
