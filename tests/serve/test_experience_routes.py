"""Sessions, memory, store, metadata, idempotency and feedback, as a client sees them."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from house import House

TOLD = "The gate code of the Marlow depot is 4471."
ASKED: Any = [{"role": "user", "content": "What is the gate code of the Marlow depot?"}]


def say(text: str) -> Any:
    return [{"role": "user", "content": text}]


def ask(client: openai.OpenAI, messages: Any, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": "champion", "messages": messages, "max_tokens": 2, **options})


def own(reply: Any) -> dict[str, Any]:
    return reply.model_extra["tenure"]


def test_what_was_told_is_recalled_in_the_next_request_of_the_same_user_only(client: openai.OpenAI) -> None:
    ask(client, say(TOLD), user="ada")
    assert own(ask(client, ASKED, user="ada"))["memory_ids"]
    assert not own(ask(client, ASKED, user="bob"))["memory_ids"]


@pytest.mark.parametrize("options", [{"extra_body": {"memory": False}}, {"extra_headers": {"X-Tenure-Memory": "off"}}])
def test_memory_can_be_switched_off(client: openai.OpenAI, options: Any) -> None:
    ask(client, say(TOLD), user="cleo")
    with_memory = ask(client, ASKED, user="cleo")
    without = ask(client, ASKED, user="cleo", **options)
    assert own(with_memory)["memory_ids"] and not own(without)["memory_ids"]
    assert without.usage.prompt_tokens < with_memory.usage.prompt_tokens


def test_store_false_is_never_learned_from(house: House, client: openai.OpenAI) -> None:
    reply = ask(client, say("The lid of the Harrow urn is copper."), user="dan", store=False, metadata={"case": "7"})
    turn = house.runtime.store.ledger.turn(reply.id)
    assert not turn.learnable
    assert turn.metadata == {"case": "7"}
    assert turn.scope.user == "dan"
    assert not own(ask(client, say("What is the lid of the Harrow urn?"), user="dan"))["memory_ids"]


def test_a_session_is_taken_as_named_or_inferred_from_history(client: openai.OpenAI) -> None:
    named = ask(client, say("Hello there."), user="eve", extra_headers={"X-Session-Id": "desk-9"})
    assert own(named)["session"] == "desk-9"
    first = ask(client, say("Begin."), user="fay")
    history: Any = [
        *say("Begin."),
        {"role": "assistant", "content": first.choices[0].message.content},
        *say("Go on."),
    ]
    assert own(ask(client, history, user="fay"))["session"] == own(first)["session"]
    assert own(ask(client, say("Something else."), user="fay"))["session"] != own(first)["session"]


def test_an_idempotency_key_gets_the_first_reply_again(house: House, client: openai.OpenAI) -> None:
    key = {"Idempotency-Key": "order-1"}
    options: Any = {"temperature": 1.5, "max_tokens": 8, "extra_headers": key}
    first = ask(client, say("Be random."), **options)
    before = house.runtime.store.ledger.head()
    again = ask(client, say("Be random."), **options)
    assert (again.id, again.choices[0].message.content) == (first.id, first.choices[0].message.content)
    with client.chat.completions.create(
        model="champion", messages=say("Be random."), stream=True, logprobs=True, **options
    ) as stream:
        chunks = list(stream)
    assert chunks[0].id == first.id
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == first.choices[0].message.content
    assert house.runtime.store.ledger.head() == before
    for text, other in (("Be something else.", options), ("Be random.", options | {"temperature": 0.1})):
        with pytest.raises(openai.ConflictError) as caught:
            ask(client, say(text), **other)
        assert caught.value.code == "idempotency_clash"


def test_memory_gives_way_where_it_would_not_fit(client: openai.OpenAI) -> None:
    ask(client, say(TOLD), user="ivy")
    question = "What is the gate code of the Marlow depot? " + "Please. " * 200
    roomy = ask(client, say(question), user="ivy", max_tokens=2)
    tight = ask(client, say(question), user="ivy", max_tokens=300)
    assert own(roomy)["memory_ids"] and not own(tight)["memory_ids"]


def test_a_raw_prompt_is_learned_from_only_when_asked(house: House, client: openai.OpenAI) -> None:
    for store, learnable in ((None, False), (True, True)):
        options: Any = {} if store is None else {"extra_body": {"store": store}}
        reply = client.completions.create(model="champion", prompt="The mast is tall.", max_tokens=1, **options)
        assert house.runtime.store.ledger.turn(reply.id).learnable is learnable


def test_feedback_names_a_reply_and_a_correction_is_known_at_once(house: House, client: openai.OpenAI) -> None:
    reply = ask(client, say("Who keeps the Selby archive?"), user="gil")
    with house.http() as http:
        body = {"response_id": reply.id, "kind": "correction", "text": "The Selby archive is kept by Ines Roth."}
        given = http.post("/feedback", json=body, headers={"Idempotency-Key": "f-1"})
        again = http.post("/feedback", json=body, headers={"Idempotency-Key": "f-1"})
    assert given.status_code == 200 and given.json()["object"] == "feedback"
    assert again.json()["id"] == given.json()["id"]
    (kept,) = house.runtime.store.ledger.feedback_of(reply.id)
    assert (kept.id, kept.scope.user) == (given.json()["id"], "gil")
    assert own(ask(client, say("Who keeps the Selby archive?"), user="gil"))["memory_ids"]


def test_a_score_for_a_session_needs_no_reply(house: House) -> None:
    with house.http() as http:
        assert http.post("/feedback", json={"session": "desk-9", "kind": "score", "score": 1}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"kind": "score", "score": 1}, 400, "response_id"),
        ({"kind": "score", "response_id": "turn_x"}, 400, "score"),
        ({"kind": "score", "response_id": "turn_x", "score": 2}, 400, "score"),
        ({"kind": "comment", "session": "s", "text": " "}, 400, "text"),
        ({"kind": "outcome", "session": "s"}, 400, "score"),
        ({"kind": "praise", "session": "s"}, 400, "kind"),
        ({"kind": "score", "response_id": "turn_nobody", "score": 1}, 404, None),
    ],
)
def test_feedback_that_says_nothing_is_refused(house: House, body: Any, status: int, param: str | None) -> None:
    with house.http() as http:
        response = http.post("/feedback", json=body)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


def test_why_names_the_turn_behind_a_reply(house: House, client: openai.OpenAI) -> None:
    told = ask(client, say("The Orme lift was built by Tessa Vane."), user="hal")
    asked = ask(client, say("Who built the Orme lift?"), user="hal")
    with house.http() as http:
        found = http.get(f"/admin/why/{asked.id}").json()["data"]
        assert http.get("/admin/why/turn_nobody").status_code == 404
    assert [turn["id"] for turn in found["sources"]] == [told.id]
    assert found["turn"]["version"] == asked.system_fingerprint
