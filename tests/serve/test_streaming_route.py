"""Streams: chunks as they come, the end after the turn is durable, cancellation when the client goes."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest
from house import House, Serve
from test_chat_route import HELLO, WEATHER


def test_a_stream_says_the_same_as_the_whole_reply(house: House, client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="champion", messages=HELLO, max_tokens=20)
    with client.chat.completions.create(model="champion", messages=HELLO, max_tokens=20, stream=True) as stream:
        chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].model_extra and chunks[0].model_extra["tenure"]["session"]
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1
    assert house.runtime.store.ledger.turn(chunks[0].id).reply.content == said


async def _stream_async(url: str) -> str:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        stream = await client.chat.completions.create(model="champion", messages=HELLO, max_tokens=9, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_the_async_client_streams(house: House, client: openai.OpenAI) -> None:
    import asyncio

    whole = client.chat.completions.create(model="champion", messages=HELLO, max_tokens=9)
    assert asyncio.run(_stream_async(house.url)) == whole.choices[0].message.content


def test_usage_comes_last_when_it_is_asked_for(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="champion", messages=HELLO, max_tokens=4, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = list(stream)
    assert last.choices == [] and last.usage is not None and 1 <= last.usage.completion_tokens <= 4
    assert all(chunk.usage is None for chunk in chunks)


def test_streamed_logprobs_cover_every_token(client: openai.OpenAI) -> None:
    options: Any = {"model": "champion", "messages": HELLO, "max_tokens": 8, "logprobs": True, "top_logprobs": 1}
    whole = client.chat.completions.create(**options).choices[0].logprobs
    with client.chat.completions.create(**options, stream=True) as stream:
        pieces = [c.choices[0].logprobs.content or [] for c in stream if c.choices[0].logprobs is not None]
    assert whole is not None and whole.content is not None
    streamed = [token for piece in pieces for token in piece]
    assert [t.token for t in streamed] == [t.token for t in whole.content]
    assert [t.logprob for t in streamed] == pytest.approx([t.logprob for t in whole.content], abs=1e-4)


def test_tool_calls_are_streamed_as_calls_and_never_as_text(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="champion", messages=HELLO, tools=[WEATHER], tool_choice="required", max_tokens=300, stream=True
    ) as stream:
        chunks = list(stream)
    assert all(not chunk.choices[0].delta.content for chunk in chunks)
    (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert call.index == 0 and call.function is not None and call.function.name == "weather"
    assert json.loads(call.function.arguments or "")["place"] in ("Oslo", "Rome")
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_text_is_held_back_but_not_lost_while_tools_are_offered(client: openai.OpenAI) -> None:
    options: Any = {"model": "champion", "messages": HELLO, "tools": [WEATHER], "max_tokens": 9}
    whole = client.chat.completions.create(**options).choices[0].message.content
    with client.chat.completions.create(**options, stream=True) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole


def test_the_wire_ends_with_done_and_a_durable_turn(house: House) -> None:
    body = {"messages": HELLO, "stream": True, "max_tokens": 6}
    with house.http() as http, http.stream("POST", "/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = []
        for line in response.iter_lines():
            if not line.startswith("data:"):
                continue
            lines.append(line.removeprefix("data:").strip())
            if '"finish_reason":"' in lines[-1]:  # the last chunk leaves after the turn is durable
                assert house.runtime.store.ledger.turn(json.loads(lines[-1])["id"])
    assert lines[-1] == "[DONE]"


def test_a_stream_that_cant_begin_has_the_right_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=HELLO, stream=True)


def _wait_until_free(house: House) -> None:
    deadline = time.monotonic() + 10
    with house.http() as http:
        while http.get(house.url.replace("/v1", "/healthz")).json()["running"]:
            assert time.monotonic() < deadline, "the place was never given back"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def slow_house(serve: Serve) -> Any:
    """A server whose replies may be long enough to leave in the middle."""
    with serve(server__max_tokens=400) as running:
        yield running


def test_leaving_a_stream_frees_the_place_and_keeps_what_was_said(slow_house: House) -> None:
    body = {"messages": HELLO, "stream": True, "temperature": 2, "seed": 3}
    with slow_house.http() as http, http.stream("POST", "/chat/completions", json=body) as response:
        first = next(line for line in response.iter_lines() if line.startswith("data:"))
    turn_id = json.loads(first.removeprefix("data:"))["id"]
    _wait_until_free(slow_house)
    turn = slow_house.runtime.store.ledger.turn(turn_id)
    assert not turn.learnable
    assert len(turn.reply.content) < 350


def test_leaving_a_whole_reply_frees_the_place(slow_house: House) -> None:
    body = {"messages": HELLO, "temperature": 2, "seed": 3}
    before = slow_house.runtime.store.ledger.head()
    with slow_house.http() as http, pytest.raises(httpx.ReadTimeout):
        http.post("/chat/completions", json=body, timeout=httpx.Timeout(10, read=0.05))
    _wait_until_free(slow_house)
    (turn,) = [turn for _, turn in slow_house.runtime.store.ledger.turns(after=before)]
    assert not turn.learnable


def test_a_key_whose_request_is_under_way_is_told_to_wait(slow_house: House) -> None:
    body = {"messages": HELLO, "stream": True, "temperature": 2, "seed": 3}
    key = {"Idempotency-Key": "twice"}
    with slow_house.http() as http:
        with http.stream("POST", "/chat/completions", json=body, headers=key):
            response = http.post("/chat/completions", json=body, headers=key)
        assert response.status_code == 409
        assert response.json()["error"]["code"] == "idempotency_clash"
    _wait_until_free(slow_house)


def test_more_requests_than_places_are_told_to_come_again(serve: Serve) -> None:
    with serve(engine__max_batch=1, server__max_queue=1, server__max_tokens=400) as full:
        body = {"messages": HELLO, "stream": True, "temperature": 2, "seed": 3}
        with full.http() as http:
            with (
                http.stream("POST", "/chat/completions", json=body),
                http.stream("POST", "/chat/completions", json=body),
            ):
                response = http.post("/chat/completions", json=body)
            assert response.status_code == 429
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "busy"
            _wait_until_free(full)
            assert http.post("/chat/completions", json={"messages": HELLO, "max_tokens": 1}).status_code == 200
