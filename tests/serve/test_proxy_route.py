"""Proxy mode: one real server before another, with ledger and memory of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from house import House, Serve
from test_chat_route import HELLO, WEATHER

from tenure.context.notes import written_in
from tenure.conversation import ChatCall
from tenure.errors import InputError, UpstreamError
from tenure.serve.passage import begin_passage, with_notes, words_of
from tenure.serve.refusals import UpstreamRefusal
from tenure.serve.upstream import endpoint_of, refusal_from
from tenure.serve.wire import ChatMessage
from tenure.types import Memory, MemoryKind, Message, Role, Scope


@pytest.fixture(scope="module")
def proxy(house: House, serve: Serve) -> Iterator[House]:
    """A server without a model of its own before the shared one."""
    with serve(server__upstream=house.url, model__name="not-loaded-in-proxy-mode") as running:
        yield running


@pytest.fixture
def through(proxy: House) -> Iterator[openai.OpenAI]:
    with proxy.client() as made:
        yield made


def test_a_reply_passes_through_and_is_kept(proxy: House, client: openai.OpenAI, through: openai.OpenAI) -> None:
    options: Any = {"model": "champion", "messages": HELLO, "max_tokens": 9, "extra_body": {"memory": False}}
    direct = client.chat.completions.create(**options)
    raw = through.chat.completions.with_raw_response.create(**options, user="ada", metadata={"a": "b"})
    reply = raw.parse()
    assert reply.choices[0].message.content == direct.choices[0].message.content
    assert reply.system_fingerprint == direct.system_fingerprint
    assert reply.id != direct.id and reply.id.startswith("turn_")
    assert raw.headers["x-session-id"] == (reply.model_extra or {})["tenure"]["session"]
    turn = proxy.runtime.store.ledger.turn(reply.id)
    assert turn.reply.content == reply.choices[0].message.content
    assert (turn.scope.user, dict(turn.metadata), turn.source) == ("ada", {"a": "b"}, "proxy")


def test_a_stream_passes_through_and_is_kept(proxy: House, client: openai.OpenAI, through: openai.OpenAI) -> None:
    options: Any = {"model": "champion", "messages": HELLO, "max_tokens": 9, "extra_body": {"memory": False}}
    direct = client.chat.completions.create(**options)
    usage: Any = {"include_usage": True}
    with through.chat.completions.create(**options, stream=True, stream_options=usage) as stream:
        chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == direct.choices[0].message.content
    assert chunks[-1].usage is not None
    kept = proxy.runtime.store.ledger.turn(chunks[0].id)
    assert (kept.num_prompt_tokens, kept.finish_reason) == (chunks[-1].usage.prompt_tokens, "length")
    assert len({chunk.id for chunk in chunks}) == 1
    assert proxy.runtime.store.ledger.turn(chunks[0].id).reply.content == said


def test_a_text_is_continued_through(proxy: House, client: openai.OpenAI, through: openai.OpenAI) -> None:
    options: Any = {"model": "champion", "prompt": "Once upon", "max_tokens": 9}
    direct = client.completions.create(**options)
    whole = through.completions.create(**options, extra_headers={"Idempotency-Key": "t-1"})
    assert (whole.choices[0].text, whole.system_fingerprint) == (direct.choices[0].text, direct.system_fingerprint)
    turn = proxy.runtime.store.ledger.turn(whole.id)
    assert (turn.messages[0].content, turn.reply.content) == ("Once upon", whole.choices[0].text)
    assert not turn.learnable
    again = through.completions.create(**options, extra_headers={"Idempotency-Key": "t-1"})
    assert (again.id, again.choices[0].text) == (whole.id, whole.choices[0].text)
    assert again.system_fingerprint == turn.effective
    with pytest.raises(openai.ConflictError):
        through.completions.create(**{**options, "temperature": 1.5}, extra_headers={"Idempotency-Key": "t-1"})
    with through.completions.create(**options, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == direct.choices[0].text
    assert proxy.runtime.store.ledger.turn(chunks[0].id).reply.content == direct.choices[0].text
    with pytest.raises(openai.BadRequestError) as refused:
        through.completions.create(model="champion", prompt=["one", "two"])
    assert refused.value.param == "prompt"


def test_what_was_cut_off_is_asked_anew(proxy: House, through: openai.OpenAI) -> None:
    options: Any = {
        "model": "champion",
        "messages": HELLO,
        "max_tokens": 8,
        "extra_headers": {"Idempotency-Key": "c-1"},
    }
    call = ChatCall((Message("user", "hi"),), Scope("local", "local"), idempotency_key="c-1")
    cut = begin_passage(proxy.runtime, "http://there/v1", call, {"messages": [{"role": "user", "content": "hi"}]})
    cut.chunk({"choices": [{"delta": {"content": "half of"}}]})
    cut.keep()
    turn = proxy.runtime.store.ledger.turn(cut.id)
    assert (turn.finish_reason, turn.learnable) == ("cancelled", False)
    assert through.chat.completions.create(**options).id != cut.id


def test_keys_are_the_proxys_own(serve: Serve) -> None:
    """Askers show the proxy's keys, the proxy shows the upstream's; neither key opens the other door."""
    with serve(server__keys=True) as behind:
        inner = behind.runtime.store.keys.create("acme", "proxy", frozenset({Role.CHAT}))
        with serve(server__upstream=behind.url, server__upstream_key=inner, server__keys=True) as before:
            outer = before.runtime.store.keys.create("acme", "anna", frozenset({Role.CHAT}))
            with before.client(outer) as anna:
                reply = anna.chat.completions.create(model="champion", messages=HELLO, max_tokens=3)
            assert before.runtime.store.ledger.turn(reply.id).scope.principal == "anna"
            for house, wrong in ((before, inner), (behind, outer)):
                with house.client(wrong) as stranger, pytest.raises(openai.AuthenticationError):
                    stranger.chat.completions.create(model="champion", messages=HELLO, max_tokens=3)


def test_a_reply_without_a_fingerprint_gets_one(proxy: House) -> None:
    call = ChatCall((Message("user", "hi"),), Scope("acme", "anna"), frozenset({Role.CHAT}), model="m")
    passage = begin_passage(proxy.runtime, "http://there/v1", call, {"messages": [{"role": "user", "content": "hi"}]})
    answer = passage.whole({"choices": [{"message": {"content": "ho"}, "finish_reason": "stop"}]})
    assert answer["system_fingerprint"] == answer["tenure"]["effective"]
    assert passage.chunk({"choices": []})["system_fingerprint"] == answer["system_fingerprint"]


def test_tool_calls_pass_through_streamed_and_whole(proxy: House, through: openai.OpenAI) -> None:
    options: Any = {
        "model": "champion",
        "messages": HELLO,
        "tools": [WEATHER],
        "tool_choice": "required",
        "max_tokens": 300,
    }
    whole = through.chat.completions.create(**options)
    with through.chat.completions.create(**options, stream=True) as stream:
        chunks = list(stream)
    for turn_id in (whole.id, chunks[0].id):
        (call,) = proxy.runtime.store.ledger.turn(turn_id).reply.tool_calls
        assert call["function"]["name"] == "weather"
        assert json.loads(call["function"]["arguments"])["place"] in ("Oslo", "Rome")


def test_memory_is_added_here_and_switched_off_on_both_sides(
    proxy: House, house: House, through: openai.OpenAI
) -> None:
    def ask(text: str, **options: Any) -> Any:
        said: Any = [{"role": "user", "content": text}]
        return through.chat.completions.create(model="champion", messages=said, max_tokens=1, **options)

    ask("The Wren ferry leaves from pier nine.")
    question = "Where does the Wren ferry leave from?"
    known = ask(question)
    assert known.model_extra["tenure"]["memory_ids"]
    sent = [t for _, t in house.runtime.store.ledger.turns()][-1].messages[-1].content  # what went to the upstream
    assert "pier nine" in sent and question in sent
    assert proxy.runtime.store.ledger.turn(known.id).messages[-1].content == question  # and this is what was asked
    closed = ask(question, extra_body={"memory": False})
    assert not closed.model_extra["tenure"]["memory_ids"]
    plain = [t for _, t in house.runtime.store.ledger.turns()][-1]
    assert plain.messages[-1].content == question and not plain.memory_ids


def test_what_isnt_text_passes_on_untouched_beside_the_notes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "more": 1}
    raw = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "x", "more": 2},
        {"role": "user", "content": [picture, {"type": "text", "text": "Which pier?"}], "more": 3},
    ]
    before = tuple(words_of(ChatMessage.model_validate(message)) for message in raw)
    memory = Memory("m", Scope("a", "b"), MemoryKind.FACT, "It is pier nine.", ("t",), 0.0, 0.0)
    assert with_notes(raw, before, before) == raw
    for examples in (False, True):
        *_, first, second, last = with_notes(raw, before, written_in(before, [memory], examples=examples))
        assert [first, second] == raw[:2]
        assert last["more"] == 3 and picture in last["content"]
        assert "pier nine" in last["content"][0]["text"] and "Which pier?" in last["content"][0]["text"]


def test_feedback_and_repeats_work_without_a_model(proxy: House, through: openai.OpenAI) -> None:
    key = {"Idempotency-Key": "p-1"}
    options: Any = {"model": "champion", "messages": HELLO, "max_tokens": 5, "extra_headers": key}
    first = through.chat.completions.create(**options)
    again = through.chat.completions.create(**options)
    assert (again.id, again.choices[0].message.content) == (first.id, first.choices[0].message.content)
    with proxy.http() as http:
        body = {"response_id": first.id, "kind": "score", "score": 1}
        assert http.post("/feedback", json=body).status_code == 200
        assert http.get("/../healthz").json()["mode"] == "proxy"
        assert 'tenure_tokens_total{kind="reply"}' in http.get("/../metrics").text
        assert http.get(f"/admin/why/{first.id}").status_code == 200


def test_models_are_the_upstreams(house: House, through: openai.OpenAI) -> None:
    assert "champion" in {model.id for model in through.models.list()}
    assert through.models.retrieve("champion").id == "champion"
    with pytest.raises(openai.NotFoundError) as caught:
        through.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


def test_the_upstreams_refusals_reach_the_asker(through: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        through.chat.completions.create(model="nobody", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            through.chat.completions.create(model="champion", messages=HELLO, n=3, stream=stream)
        assert refused.value.param == "n"


def test_what_needs_a_model_of_its_own_says_so(proxy: House) -> None:
    with proxy.http() as http:
        for path, body in (
            ("/fine_tuning/jobs", {}),
            ("/admin/rollback", None),
        ):
            response = http.post(path, json=body)
            assert response.status_code == 400
            assert "server.upstream" in response.json()["error"]["message"]


def test_an_upstream_that_isnt_there_is_a_502(serve: Serve) -> None:
    with serve(server__upstream="http://127.0.0.1:9") as lonely, lonely.client() as client:
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(model="x", messages=HELLO, stream=stream)
            assert caught.value.status_code == 502
            assert caught.value.code == "upstream_error"
        assert lonely.runtime.store.ledger.head() == 0


@pytest.mark.parametrize(
    ("status", "seen"), [(400, 400), (401, 502), (403, 502), (404, 404), (422, 400), (429, 429), (500, 502), (503, 502)]
)
def test_whose_error_an_upstreams_error_is(status: int, seen: int) -> None:
    for content in (b'{"error": {"message": "no"}}', b"<html>", b"[]", b'{"error": "no"}'):
        error = refusal_from(httpx.Response(status, content=content), "http://up")
        assert error.status == seen
        assert isinstance(error, UpstreamRefusal if seen != 502 else UpstreamError)


def test_an_upstreams_address_gets_its_version() -> None:
    assert endpoint_of("http://host:1") == "http://host:1/v1"
    assert endpoint_of("https://host/") == "https://host/v1"
    assert endpoint_of("https://host/api/v3/") == "https://host/api/v3"
    for wrong in ("host:80", "ftp://host", "http://"):
        with pytest.raises(InputError):
            endpoint_of(wrong)
