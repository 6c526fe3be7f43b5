"""POST /v1/chat/completions and /v1/completions through the official client, whole replies."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from house import House

HELLO: list[Any] = [{"role": "user", "content": "Say something."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["Oslo", "Rome"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}


def test_a_reply_has_openais_shape_and_a_turn_behind_it(house: House, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="champion", messages=HELLO, max_tokens=5)
    reply = raw.parse()
    champion = house.runtime.store.registry.aliases()
    assert reply.object == "chat.completion"
    assert reply.system_fingerprint in champion.values()
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert 1 <= reply.usage.completion_tokens <= 5
    own = reply.model_extra["tenure"] if reply.model_extra else {}
    assert raw.headers["x-session-id"] == own["session"]
    assert raw.headers["x-request-id"] == reply.id
    assert raw.headers["x-tenure-version"] == reply.system_fingerprint
    assert raw.headers["x-tenure-effective"] == own["effective"]
    turn = house.runtime.store.ledger.turn(reply.id)
    assert turn.reply.content == reply.choices[0].message.content
    assert (turn.version, turn.effective, turn.session) == (reply.system_fingerprint, own["effective"], own["session"])


def test_greedy_replies_repeat_and_seeds_repeat(client: openai.OpenAI) -> None:
    def ask(**options: Any) -> str:
        reply = client.chat.completions.create(model="champion", messages=HELLO, max_tokens=12, **options)
        return reply.choices[0].message.content or ""

    assert ask() == ask(temperature=0)
    assert ask(temperature=1.5, seed=7) == ask(temperature=1.5, seed=7)
    assert ask(temperature=1.5, seed=7) != ask(temperature=1.5, seed=8)


async def _ask_async(url: str) -> str:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        reply = await client.chat.completions.create(model="champion", messages=HELLO, max_tokens=3)
        return reply.id


def test_the_async_client_is_answered(house: House) -> None:
    import asyncio

    assert asyncio.run(_ask_async(house.url)).startswith("turn_")


def test_max_completion_tokens_is_the_new_name(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="champion", messages=HELLO, max_completion_tokens=3, max_tokens=9)
    assert reply.usage is not None and reply.usage.completion_tokens <= 3


def test_a_stop_string_ends_the_reply_and_is_left_out(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="champion", messages=HELLO, max_tokens=12).choices[0].message.content
    assert whole and len(whole) > 3
    stop = whole[2]
    cut = client.chat.completions.create(model="champion", messages=HELLO, max_tokens=12, stop=[stop]).choices[0]
    assert cut.message.content == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


def test_logprobs_name_the_tokens_that_came_and_the_likeliest(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="champion", messages=HELLO, max_tokens=6, logprobs=True, top_logprobs=3
    ).choices[0]
    assert reply.logprobs is not None and reply.logprobs.content
    said = b"".join(bytes(token.bytes or []) for token in reply.logprobs.content)
    assert said.decode("utf8", "replace") == reply.message.content
    for token in reply.logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob)  # greedy: the likeliest one came
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob


def test_a_json_schema_is_kept(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}, "ok": {"type": "boolean"}},
        "required": ["mood", "ok"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "mood", "schema": schema, "strict": True}}
    reply = client.chat.completions.create(model="champion", messages=HELLO, max_tokens=300, response_format=form)
    value = json.loads(reply.choices[0].message.content or "")
    assert value["mood"] in ("good", "bad") and isinstance(value["ok"], bool)


def test_json_object_begins_an_object(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="champion", messages=HELLO, max_tokens=4, response_format={"type": "json_object"}
    )
    assert (reply.choices[0].message.content or "").lstrip().startswith("{")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_forced_tool_is_called(house: House, client: openai.OpenAI, choice: Any) -> None:
    reply = client.chat.completions.create(
        model="champion", messages=HELLO, tools=[WEATHER], tool_choice=choice, max_tokens=300
    )
    said = reply.choices[0]
    assert said.finish_reason == "tool_calls"
    assert said.message.content is None
    assert said.message.tool_calls is not None
    call = said.message.tool_calls[0]
    assert call.type == "function" and call.function.name == "weather"
    assert json.loads(call.function.arguments)["place"] in ("Oslo", "Rome")
    assert house.runtime.store.ledger.turn(reply.id).reply.tool_calls[0]["id"] == call.id


def test_a_tool_conversation_goes_on_with_the_result(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}}
    messages: Any = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    for choice in ("auto", "none"):
        reply = client.chat.completions.create(
            model="champion",
            messages=messages,
            tools=[WEATHER],
            tool_choice=choice,
            max_tokens=4,  # type: ignore[call-overload]
        )
        assert reply.choices[0].message.tool_calls is None


def test_two_forced_tools_may_share_a_definition_but_not_a_name_for_two(client: openai.OpenAI) -> None:
    def tool(name: str, definition: Any) -> Any:
        place = {"type": "object", "properties": {"p": {"$ref": "#/$defs/place"}}, "required": ["p"]}
        parameters = {**place, "$defs": {"place": definition}, "additionalProperties": False}
        return {"type": "function", "function": {"name": name, "parameters": parameters}}

    def ask(*tools: Any) -> Any:
        return client.chat.completions.create(
            model="champion", messages=HELLO, tools=list(tools), tool_choice="required", max_tokens=300
        ).choices[0]

    said = ask(tool("a", {"enum": ["x"]}), tool("b", {"enum": ["x"]}))
    assert json.loads(said.message.tool_calls[0].function.arguments) == {"p": "x"}
    with pytest.raises(openai.BadRequestError, match="define"):
        ask(tool("a", {"enum": ["x"]}), tool("b", {"enum": ["y"]}))


def test_text_parts_are_read_and_pictures_refused(client: openai.OpenAI) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
    whole = client.chat.completions.create(model="champion", messages=parts, max_tokens=3)
    joined: Any = [{"role": "user", "content": "one\ntwo"}]
    same = client.chat.completions.create(model="champion", messages=joined, max_tokens=3)
    assert whole.choices[0].message.content == same.choices[0].message.content
    picture: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    with pytest.raises(openai.BadRequestError, match="image_url") as caught:
        client.chat.completions.create(model="champion", messages=picture)
    assert caught.value.param == "messages.0.content.0"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"n": 2}, "n"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
            "response_format.json_schema.schema",
        ),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"extra_headers": {"X-Session-Id": "x" * 300}}, "x-session-id"),
        ({"extra_headers": {"X-Tenure-Memory": "maybe"}}, "X-Tenure-Memory"),
    ],
)
def test_what_cant_be_served_is_refused_by_name(client: openai.OpenAI, options: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "champion", "messages": HELLO, **options})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert param.split(".", maxsplit=1)[0].lower() in caught.value.message.lower()


def test_unknown_fields_are_tolerated(client: openai.OpenAI) -> None:
    extra = {"service_tier": "auto", "verbosity": "low", "made_up": [1, {"a": None}]}
    assert client.chat.completions.create(model="champion", messages=HELLO, max_tokens=2, extra_body=extra).id


def test_an_unknown_model_is_404_and_never_a_fallback(client: openai.OpenAI) -> None:
    for name in ("gpt-4o", "deadbeef" * 8, "challenger"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model=name, messages=HELLO)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_context_that_is_too_long_is_named_so(client: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "word " * 500}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="champion", messages=long)
    assert caught.value.code == "context_length_exceeded"


def test_a_plain_completion_continues_the_text(house: House, client: openai.OpenAI) -> None:
    reply = client.completions.create(model="champion", prompt="Once", max_tokens=4, logprobs=2)
    assert reply.object == "text_completion" and reply.id.startswith("turn_")
    assert reply.choices[0].logprobs is not None and reply.choices[0].logprobs.tokens
    assert reply.choices[0].logprobs.text_offset is not None
    assert reply.choices[0].logprobs.text_offset[0] == len("Once")
    assert house.runtime.store.ledger.turn(reply.id).messages[0].content == "Once"
    with client.completions.create(model="champion", prompt=["Once"], max_tokens=4, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == reply.choices[0].text


@pytest.mark.parametrize("options", [{"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {"prompt": ""}, {"echo": True}])
def test_what_a_plain_completion_cant_do_is_refused(client: openai.OpenAI, options: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        client.completions.create(**{"model": "champion", "prompt": "Once", **options})
