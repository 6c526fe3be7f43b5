"""Drafted tokens change how many steps a reply takes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import engine_of, prompt, tiny_of

from tenure.model.drafting import Drafter
from tenure.model.language_model import LanguageModel
from tenure.model.requests import Completion, GenerationRequest, Sampling

SCHEMA = {"type": "array", "items": {"enum": ["abcabc", "abcabd"]}, "minItems": 3, "maxItems": 5}


@pytest.fixture(scope="module", params=["fp32", "bf16", "compiled"])
def model(request: pytest.FixtureRequest, tiny_model_directory: Path) -> Iterator[LanguageModel]:
    with pytest.MonkeyPatch.context() as patch:
        yield tiny_of(tiny_model_directory, request.param, patch)


def requests() -> list[GenerationRequest]:
    """Prompts that repeat themselves, in every way of choosing tokens."""
    ways: list[dict[str, Any]] = [
        {},
        {"logprobs": 3},
        {"temperature": 0.3, "seed": 1},
        {"temperature": 0.9, "top_p": 0.9, "seed": 2, "logprobs": 0},
        {"schema": SCHEMA},
        {"max_tokens": 1},
        {"max_tokens": 2, "logprobs": 1},
    ]
    return [
        GenerationRequest(prompt(i, 5) * 4 + prompt(i, 2), Sampling(**{"max_tokens": 40, **way}))
        for i, way in enumerate(ways)
    ]


def said(model: LanguageModel, asked: list[GenerationRequest], **settings: int) -> tuple[list[Completion], Any]:
    engine = engine_of(model, **settings)
    return engine.generate(asked), engine.counters


@pytest.mark.parametrize("max_batch", [1, 2])
def test_replies_are_the_same_to_the_bit(model: LanguageModel, max_batch: int) -> None:
    drafted, counters = said(model, requests(), max_batch=max_batch, max_draft_tokens=6)
    plain, before = said(model, requests(), max_batch=max_batch, max_draft_tokens=0)
    assert drafted == plain
    assert before.num_drafted_tokens == 0
    assert 0 < counters.num_accepted_tokens < counters.num_drafted_tokens
    assert counters.num_generated_tokens == before.num_generated_tokens
    assert counters.num_prompt_tokens == before.num_prompt_tokens
    assert counters.num_steps < before.num_steps


def test_many_rows_draft_nothing(model: LanguageModel) -> None:
    """But they do as soon as few are left."""
    asked = [GenerationRequest(r.tokens, Sampling(max_tokens=20)) for r in requests()[:4]]
    _, counters = said(model, asked, max_batch=4, max_draft_tokens=6)
    assert counters.num_drafted_tokens == 0
    asked[0] = GenerationRequest(asked[0].tokens, Sampling(max_tokens=60))
    _, counters = said(model, asked, max_batch=4, max_draft_tokens=6)
    assert counters.num_drafted_tokens > 0


def test_a_right_draft_saves_its_steps(model: LanguageModel) -> None:
    asked = requests()[:1]
    _, counters = said(model, asked, max_draft_tokens=6)
    _, before = said(model, asked, max_draft_tokens=0)
    assert before.num_steps - counters.num_steps == counters.num_accepted_tokens


def test_a_stop_string_within_a_draft_ends_the_reply(model: LanguageModel) -> None:
    (whole,), _ = said(model, requests()[:1], max_draft_tokens=0)
    stop = model.chat.decode(whole.tokens[20:22])
    asked = [GenerationRequest(requests()[0].tokens, Sampling(max_tokens=40, stop=(stop,)))]
    drafted, _ = said(model, asked, max_draft_tokens=6)
    plain, _ = said(model, asked, max_draft_tokens=0)
    assert drafted == plain
    assert drafted[0].finish_reason == "stop"
    assert stop not in drafted[0].text


def test_what_was_drafted_in_vain_is_not_kept_as_a_prefix(model: LanguageModel) -> None:
    """A next turn reuses the blocks of the reply before it: they must hold its tokens, not the drafts'."""
    first = requests()[0]
    replies = []
    for number in (6, 0):
        engine = engine_of(model, max_draft_tokens=number)
        reply = engine.submit(first).result()
        again = GenerationRequest((*first.tokens, *reply.tokens, *prompt(9, 3)), Sampling(max_tokens=20, logprobs=2))
        replies.append(engine.submit(again).result())
    assert replies[0].num_cached_tokens > len(first.tokens)
    assert replies[0] == replies[1]


def test_a_draft_is_what_followed_the_same_tokens_last() -> None:
    drafter = Drafter([1, 2, 3, 4, 1, 2, 3, 5, 9, 1, 2, 3], 4)
    assert drafter.draft(10) == (5,)
    drafter.fared(1, 1)
    assert drafter.draft(10) == (5, 9)
    assert drafter.draft(1) == (5,)
    assert drafter.draft(0) == ()
    drafter.push(7)
    assert drafter.draft(10) == ()


def test_after_a_wrong_draft_only_the_longest_match_is_trusted() -> None:
    drafter = Drafter([1, 2, 3, 8, 2, 3], 4)
    assert drafter.draft(10) == (8,)
    drafter.fared(1, 0)
    assert drafter.draft(10) == ()
    assert Drafter([1, 2, 3, 8, 1, 2, 3], 0).draft(10) == ()
