"""How tokens are chosen: seeds, top-p, stop strings, log-probabilities and JSON schemas."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import pytest
import torch
from served import engine_of, prompt, request, tiny

from tenure.errors import InputError
from tenure.model.language_model import LanguageModel
from tenure.model.requests import Completion, GenerationRequest, Sampling
from tenure.model.sampling import Sampler, StopText


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    return tiny(tiny_model_directory)


def sampled(seed: int, **more: object) -> GenerationRequest:
    settings = {"max_tokens": 20, "temperature": 1.0, "seed": seed, **more}
    return GenerationRequest(prompt(1, 12), Sampling(**settings))  # type: ignore[arg-type]


def test_a_seed_says_the_same_whoever_else_is_there(model: LanguageModel) -> None:
    alone = engine_of(model).generate([sampled(7)])[0]
    crowd = engine_of(model).generate([sampled(3), request(5, 40), sampled(7), sampled(8), sampled(7)])
    assert alone.tokens == crowd[2].tokens == crowd[4].tokens
    assert alone.tokens != crowd[3].tokens


def test_no_seed_means_another_reply_each_time(model: LanguageModel) -> None:
    unseeded = GenerationRequest(prompt(1, 12), Sampling(max_tokens=20, temperature=1.5))
    assert len({c.tokens for c in engine_of(model).generate([unseeded] * 6)}) == 6


def test_temperature_and_top_p_draw_from_the_right_distribution() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    plain, cut, sharp = (
        Sampler(Sampling(temperature=t, top_p=p, seed=1)) for t, p in ((1.0, 1.0), (1.0, 0.7), (0.5, 1.0))
    )

    def shares(sampler: Sampler) -> list[float]:
        drawn = torch.tensor([sampler.choose(logits).token for _ in range(4000)])
        return (drawn.bincount(minlength=4) / 4000).tolist()

    assert shares(plain) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    assert shares(cut) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    squares = [0.25, 0.09, 0.0225, 0.0025]
    assert shares(sharp) == pytest.approx([s / sum(squares) for s in squares], abs=0.03)
    assert Sampler(Sampling(temperature=1.0, top_p=1e-6, seed=1)).choose(logits).token == 0


def test_logprobs_are_the_models_own(model: LanguageModel) -> None:
    engine = engine_of(model)
    got = engine.generate([sampled(2, logprobs=5), sampled(2, logprobs=0), sampled(2)])
    assert got[0].tokens == got[1].tokens == got[2].tokens
    assert got[2].logprobs == ()
    expected = engine.distributions(prompt(1, 12), got[0].tokens)
    for i, token in enumerate(got[0].tokens):
        assert got[0].logprobs[i] == pytest.approx(float(expected[i, token]), abs=1e-4)
        assert got[0].logprobs[i] == pytest.approx(got[1].logprobs[i])
        values, tokens = expected[i].topk(5)
        assert [t for t, _ in got[0].top[i]] == tokens.tolist()
        assert [p for _, p in got[0].top[i]] == pytest.approx(values.tolist(), abs=1e-4)
    assert math.isclose(float(expected[0].exp().sum()), 1.0, abs_tol=1e-4)


def stopped(model: LanguageModel, stop: tuple[str, ...]) -> tuple[Completion, list[str]]:
    generation = engine_of(model).submit(sampled(4, max_tokens=60, temperature=2.0, stop=stop))
    pieces = [event.text for event in generation]
    return generation.result(), pieces


def test_stop_strings_across_tokens_are_never_shown(model: LanguageModel) -> None:
    whole, _ = stopped(model, ())
    start = next(i for i in range(8, 40) if whole.text[i : i + 3].isprintable() and whole.text[i] != "\ufffd")
    stop = whole.text[start : start + 3]
    first = whole.text.find(stop)
    got, pieces = stopped(model, (stop, "never said"))
    assert got.finish_reason == "stop"
    assert got.text == whole.text[:first] == "".join(pieces)
    assert stop not in got.text
    assert len(got.tokens) < len(whole.tokens)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_text_is_held_back_only_as_long_as_it_may_become_a_stop(size: int) -> None:
    text, stops = "a</s b</stop>c", ("</stop>", "zzz")
    found = StopText(stops)
    shown = "".join(found.push(text[i : i + size]) for i in range(0, len(text), size))
    assert (shown, found.found) == ("a</s b", True)
    unfinished = StopText(stops)
    assert unfinished.push("a</st") == "a"
    assert unfinished.push("x") == "</stx"
    assert unfinished.push("</sto") == ""
    assert unfinished.flush() == "</sto"


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "kind": {"enum": ["cat", "dog"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["name", "kind", "legs"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(4))
def test_a_schema_is_kept_by_a_model_that_knows_nothing(model: LanguageModel, seed: int) -> None:
    asked = sampled(seed, max_tokens=200, temperature=1.0, schema=SCHEMA)
    got, other = engine_of(model).generate([asked, request(2)])
    assert got.finish_reason == "stop"
    jsonschema.validate(json.loads(got.text), SCHEMA)
    assert other.tokens == engine_of(model).generate([request(2)])[0].tokens


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "("}])
def test_a_schema_that_cannot_be_used_is_refused(model: LanguageModel, schema: dict[str, object]) -> None:
    with pytest.raises(InputError, match="schema"):
        engine_of(model).submit(sampled(1, schema=schema))


def test_a_grammar_that_gives_up_costs_its_own_request_only(model: LanguageModel) -> None:
    engine = engine_of(model)
    bad = engine.submit(sampled(1, schema=SCHEMA))
    good = engine.submit(request(2))
    bad_row = engine._waiting[0]
    assert bad_row.sampler._constraint is not None
    bad_row.sampler._constraint._matcher.consume_token(5)  # a token that the grammar doesn't allow: now it is lost
    completion = bad.result()
    assert completion.finish_reason == "error"
    assert "schema" in completion.error
    assert good.result().tokens == engine_of(model).generate([request(2)])[0].tokens
    assert engine.num_running == 0
