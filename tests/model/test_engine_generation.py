"""Continuous batching gives what each request would get alone, whatever joins, leaves or is cut into chunks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from served import engine_of, prompt, tiny
from transformers import AutoModelForCausalLM

from tenure.errors import ContextTooLong, InputError, NotFound
from tenure.model.language_model import LanguageModel
from tenure.model.requests import Completion, GenerationRequest, Sampling
from tenure.types import AttachmentUse


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    return tiny(tiny_model_directory)


def requests(number: int, *, max_tokens: int = 12) -> list[GenerationRequest]:
    return [
        GenerationRequest(prompt(i, 3 + 7 * i % 50), Sampling(max_tokens=max_tokens + i % 5)) for i in range(number)
    ]


def alone(model: LanguageModel, request: GenerationRequest) -> Completion:
    return engine_of(model, max_batch=1, prefill_chunk_tokens=512, prefix_cache_bytes=0).generate([request])[0]


def test_greedy_equals_transformers_generate(model: LanguageModel, tiny_model_directory: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(tiny_model_directory, dtype=torch.float32)
    for request, completion in zip(requests(6), engine_of(model).generate(requests(6)), strict=True):
        out = network.generate(
            torch.tensor([request.tokens]),
            attention_mask=torch.ones(1, len(request.tokens), dtype=torch.long),
            max_new_tokens=request.sampling.max_tokens,
            do_sample=False,
            pad_token_id=0,
        )[0, len(request.tokens) :].tolist()
        ended = out[-1] in model.chat.stop_tokens
        assert completion.tokens == tuple(out[:-1] if ended else out)
        assert completion.finish_reason == ("stop" if ended else "length")


def test_a_batch_gives_what_each_request_gets_alone(model: LanguageModel) -> None:
    together = engine_of(model).generate(requests(9))
    assert [c.tokens for c in together] == [alone(model, r).tokens for r in requests(9)]
    assert [c.text for c in together] == [model.chat.decode(c.tokens) for c in together]


@pytest.mark.parametrize("seed", range(6))
def test_requests_join_and_leave_at_any_step(model: LanguageModel, seed: int) -> None:
    draw = random.Random(seed)
    engine = engine_of(model, max_batch=3, prefill_chunk_tokens=draw.choice([4, 16, 64]))
    wanted = [
        GenerationRequest(
            prompt(draw.randrange(4), draw.randrange(1, 120)),
            Sampling(
                max_tokens=draw.randrange(1, 20),
                temperature=draw.choice([0.0, 0.0, 0.8, 1.5]),
                top_p=draw.choice([1.0, 0.8]),
                seed=i,
            ),
        )
        for i in range(10)
    ]
    left, running, cancelled = list(wanted), [], set()
    while left or engine.num_running or engine.num_waiting:
        if left and draw.random() < 0.4:
            running.append(engine.submit(left.pop(0)))
        if running and draw.random() < 0.05:
            victim = draw.randrange(len(running))
            running[victim].cancel()
            cancelled.add(victim)
        engine.step()
    for i, (request, generation) in enumerate(zip(wanted, running, strict=True)):
        expected, got = alone(model, request), generation.result()
        if i in cancelled and got.finish_reason == "cancelled":
            assert got.tokens == expected.tokens[: len(got.tokens)]
        else:
            assert got.tokens == expected.tokens
    assert engine.num_running == engine.num_waiting == 0


def test_a_long_prompt_is_read_in_chunks_while_others_go_on_talking(model: LanguageModel) -> None:
    engine = engine_of(model, prefill_chunk_tokens=32)
    engine.submit(GenerationRequest(prompt(1, 5), Sampling(max_tokens=60)))
    engine.step()
    engine.submit(GenerationRequest(prompt(2, 150), Sampling(max_tokens=4)))
    for num_read in (32, 32, 32, 32, 22, 0):
        before = replace(engine.counters)
        engine.step()
        assert engine.counters.num_prompt_tokens - before.num_prompt_tokens == num_read
        assert engine.counters.num_generated_tokens > before.num_generated_tokens


def test_a_cancelled_request_frees_its_place_at_the_next_step(model: LanguageModel) -> None:
    engine = engine_of(model, max_batch=1)
    first = engine.submit(GenerationRequest(prompt(1, 5), Sampling(max_tokens=400)))
    second = engine.submit(GenerationRequest(prompt(2, 5), Sampling(max_tokens=2)))
    for _ in range(5):
        engine.step()
    assert (engine.num_running, engine.num_waiting) == (1, 1)
    first.cancel()
    engine.step()
    assert engine.num_waiting == 0
    assert first.result().finish_reason == "cancelled"
    assert 0 < len(first.result().tokens) < 10
    assert len(second.result().tokens) <= 2


def test_events_stream_the_reply(model: LanguageModel) -> None:
    engine = engine_of(model)
    request = requests(6)[5]
    other = engine.submit(requests(3)[2])
    events = list(engine.submit(request))
    assert tuple(e.token for e in events) == alone(model, request).tokens
    assert "".join(e.text for e in events) == alone(model, request).text
    assert other.result().tokens == alone(model, requests(3)[2]).tokens


def test_what_cannot_be_asked_is_refused_before_it_joins(model: LanguageModel) -> None:
    engine = engine_of(model)
    with pytest.raises(ContextTooLong, match="520"):
        engine.submit(GenerationRequest(prompt(1, 500), Sampling(max_tokens=20)))
    with pytest.raises(InputError, match="no tokens"):
        engine.submit(GenerationRequest(()))
    with pytest.raises(InputError, match="vocabulary of 259"):
        engine.submit(GenerationRequest((1, 259)))
    with pytest.raises(NotFound, match="nobody"):
        engine.submit(GenerationRequest((1,), weights="nobody"))
    with pytest.raises(NotFound, match="nothing"):
        engine.submit(GenerationRequest((1,), attachments=(AttachmentUse("nothing"),)))
    for bad in (Sampling(temperature=-1), Sampling(top_p=0), Sampling(max_tokens=0), Sampling(stop=("",))):
        with pytest.raises(InputError):
            engine.submit(GenerationRequest((1,), bad))
    assert engine.num_waiting == 0


def test_the_longest_reply_fills_the_window(model: LanguageModel) -> None:
    request = GenerationRequest(prompt(3, 450), Sampling(max_tokens=62))
    assert engine_of(model).generate([request])[0].tokens == alone(model, request).tokens
