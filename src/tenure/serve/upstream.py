"""Proxy mode: the same door before any OpenAI-compatible endpoint, with ledger and memory and no local weights.

The request passes on as it came, but for the notes that memory adds; the answer comes back as it is, but for its id
(the turn's, so that feedback can name it) and Tenure's own part. Called by `chat.py`, `completions.py` and `models.py`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import anyio
import httpx
from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from tenure.config import ServerConfig
from tenure.conversation import ChatCall
from tenure.errors import InputError, UpstreamError
from tenure.runtime import Runtime
from tenure.serve import wire
from tenure.serve.asked import SESSION_HEADER, header, idempotency_key, memory_wanted, prompt_of, scope_of
from tenure.serve.flights import Flights, Seat
from tenure.serve.metrics import Meters
from tenure.serve.passage import Passage, begin_passage, words_of
from tenure.serve.refusals import UpstreamRefusal, json_response
from tenure.serve.sse import event_stream
from tenure.store.digests import digest_bytes
from tenure.types import Message, Principal

CONNECT_SECONDS = 10.0
READ_SECONDS = 600.0
SHOWING = ("stream", "stream_options")  # how a reply is shown, not what it says


def endpoint_of(url: str) -> str:
    """The base URL with its version: a bare host gets /v1, as OpenAI's clients expect. Raises InputError."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InputError(f"server.upstream = {url!r} is no address; write it like http://127.0.0.1:8000/v1")
    return url.rstrip("/") + ("/v1" if parsed.path in ("", "/") else "")


class Upstream:
    """One OpenAI-compatible endpoint behind this door."""

    def __init__(self, runtime: Runtime, flights: Flights, meters: Meters, settings: ServerConfig) -> None:
        self.endpoint = endpoint_of(settings.upstream)
        self._runtime = runtime
        self._flights = flights
        self._meters = meters
        headers = {"Authorization": f"Bearer {settings.upstream_key}"} if settings.upstream_key else {}
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None)  # `flights` is what limits
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def models(self, model: str = "") -> Response:
        """The upstream's own list, or one entry of it."""
        path = f"/models/{model}" if model else "/models"
        response = await self._send(self._client.build_request("GET", self.endpoint + path))
        return json_response(200, _parsed(response.text, self.endpoint))

    async def answered(
        self, request: Request, body: wire.ChatBody | wire.CompletionBody, principal: Principal
    ) -> Response | ChatCall:
        """The upstream's reply; the call alone where its idempotency key has a reply, which the runtime gives again.

        Raises Unfit for a prompt that isn't one text, UpstreamError.
        """
        call = await self._call(request, body, principal)
        return call if await run_in_threadpool(self._is_repeat, call) else await self._pass_on(request, body, call)

    def _is_repeat(self, call: ChatCall) -> bool:
        who, key = f"{call.scope.tenant}/{call.scope.principal}", call.idempotency_key
        return bool(key) and self._runtime.store.ledger.repeated(who, key) is not None

    async def _call(
        self, request: Request, body: wire.ChatBody | wire.CompletionBody, principal: Principal
    ) -> ChatCall:
        """The request as the house understands it."""
        prompt = prompt_of(body) if isinstance(body, wire.CompletionBody) else None
        said = map(words_of, body.messages) if isinstance(body, wire.ChatBody) else [Message("user", prompt or "")]
        key, passed_on = idempotency_key(request), ""
        if key:
            handed = {name: value for name, value in (await request.json()).items() if name not in SHOWING}
            passed_on = digest_bytes(json.dumps(handed, sort_keys=True).encode())
        return ChatCall(
            messages=tuple(said),
            scope=scope_of(principal, body.user),
            model=body.model,
            session=header(request, SESSION_HEADER),
            memory=memory_wanted(request, body),
            learnable=body.store is not False if prompt is None else body.store is True,
            metadata=body.metadata or {},
            idempotency_key=key,
            raw_prompt=prompt,
            passed_on=passed_on,
        )

    async def _pass_on(self, request: Request, body: wire.Generation, call: ChatCall) -> Response:
        """One completion through the upstream, kept in the ledger like an own one."""
        passage = await run_in_threadpool(begin_passage, self._runtime, self.endpoint, call, await request.json())
        url = f"{self.endpoint}{'/chat/completions' if call.raw_prompt is None else '/completions'}"
        # an upstream of our kind keeps its own memory out of the prompt too
        headers = {} if call.memory else {"X-Tenure-Memory": "off"}
        outgoing = self._client.build_request("POST", url, json=passage.outgoing, headers=headers)
        seat = self._flights.seat(passage.once)
        try:
            if body.stream:
                response = await self._send(outgoing, stream=True)
                chunks = self._relay(response, passage, seat)
                return event_stream(chunks, passage.headers(), on_close=seat.leave)
            answer = await self._whole(outgoing, passage)
        except BaseException:
            seat.leave()
            raise
        seat.leave()
        return json_response(200, answer, passage.headers())

    async def _whole(self, outgoing: httpx.Request, passage: Passage) -> Mapping[str, Any]:
        answer = passage.whole(_parsed((await self._send(outgoing)).text, self.endpoint))
        await run_in_threadpool(passage.keep)
        self._meters.counted(**passage.usage)
        return answer

    async def _send(self, outgoing: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """Send, and turn every failure into an error of ours: the asker's stay theirs, all others are 502."""
        try:
            response = await self._client.send(outgoing, stream=True)
            if response.status_code >= 400:
                await response.aread()
                raise refusal_from(response, self.endpoint)
            if not stream:
                await response.aread()
        except httpx.HTTPError as error:
            raise UpstreamError(
                f"the upstream {self.endpoint} can't be reached or broke off ({type(error).__name__}: {error}); "
                "check server.upstream and that it runs"
            ) from error
        return response

    async def _relay(self, response: httpx.Response, passage: Passage, seat: Seat) -> AsyncGenerator[Mapping[str, Any]]:
        last: Mapping[str, Any] | None = None  # leaves after the turn is durable, and that waits for the usage
        try:
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if data == "[DONE]":
                    break
                if not data:
                    continue
                chunk = passage.chunk(_parsed(data, self.endpoint))
                if passage.ended and not passage.kept and last is None:
                    last = chunk
                    continue
                if last is not None:
                    await run_in_threadpool(passage.keep)
                    yield last
                    last = None
                yield chunk
            if last is not None:
                await run_in_threadpool(passage.keep)
                yield last
            self._meters.counted(**passage.usage)
            if not passage.ended:
                raise UpstreamError(f"the upstream {self.endpoint} ended its stream in the middle; ask again")
        except httpx.HTTPError as error:
            raise UpstreamError(f"the upstream {self.endpoint} broke off: {type(error).__name__}: {error}") from error
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
                if not passage.kept and passage.said:
                    await run_in_threadpool(passage.keep)  # what was said is kept, but never learned from
            seat.leave()


def refusal_from(response: httpx.Response, endpoint: str) -> UpstreamError:
    """An upstream's error as ours. Its 4xx about the request keep their status; its keys and failures are ours: 502."""
    try:
        detail = response.json()["error"]
        message, code, param = str(detail["message"]), detail.get("code"), detail.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code, param = response.text[:500] or "no message", None, None
    status = response.status_code
    if status in (400, 404, 409, 413, 422, 429):
        return UpstreamRefusal(message, status=400 if status == 422 else status, code=code, param=param)
    return UpstreamError(f"the upstream {endpoint} answered {status}: {message}; check server.upstream_key and its log")


def _parsed(text: str, endpoint: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UpstreamError(f"the upstream {endpoint} answered something that is no JSON object: {text[:200]!a}")
    return value
