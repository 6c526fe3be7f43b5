"""Likelihoods and hidden states equal those of transformers' own network, whatever else is in the list."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from served import engine_of, prompt, tiny, write_adapter

from tenure.errors import ContextTooLong, InputError
from tenure.model.cache import BLOCK_TOKENS
from tenure.model.language_model import LanguageModel
from tenure.model.requests import ScoreRequest
from tenure.model.scoring import Item, Pack, item_of
from tenure.types import AttachmentUse


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    return tiny(tiny_model_directory)


@torch.no_grad()
def expected(model: LanguageModel, tokens: tuple[int, ...], said: tuple[int, ...]) -> float:
    """One sequence at a time through the loaded network."""
    logits = model.network(torch.tensor([[*tokens, *said]])).logits[0].log_softmax(-1)
    return sum(float(logits[len(tokens) - 1 + i, token]) for i, token in enumerate(said))


def items(number: int) -> list[ScoreRequest]:
    draw = random.Random(number)
    return [
        ScoreRequest(
            prompt(i, draw.randrange(1, 60)),
            tuple(prompt(100 * i + c, draw.choice([1, 1, 2, 5, 9])) for c in range(draw.randrange(1, 5))),
        )
        for i in range(number)
    ]


def test_scores_are_the_networks_own(model: LanguageModel) -> None:
    for item, result in zip(items(12), engine_of(model).score(items(12), batch_tokens=100), strict=True):
        wanted = [expected(model, item.tokens, continuation) for continuation in item.continuations]
        assert result.log_likelihoods == pytest.approx(wanted, abs=1e-3)


def test_many_places_for_the_head_are_cut_without_a_seam(model: LanguageModel) -> None:
    item = ScoreRequest(prompt(1, 10), tuple(prompt(i, 30) for i in range(2, 10)))
    wanted = [expected(model, item.tokens, c) for c in item.continuations]
    assert engine_of(model).score([item])[0].log_likelihoods == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_score_does_not_depend_on_its_neighbours(tiny_model_directory: Path, precision: str) -> None:
    engine = engine_of(tiny(tiny_model_directory, precision))
    together = engine.score(items(10))
    alone = [engine.score([item])[0] for item in items(10)]
    if precision == "int8":  # products of a few rows and of many round differently (docs/engine.md)
        for a, b in zip(together, alone, strict=True):
            assert a.log_likelihoods == pytest.approx(b.log_likelihoods, rel=1e-3)
    else:
        assert together == alone


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_common_beginning_is_computed_once_without_a_different_bit(
    tiny_model_directory: Path, precision: str
) -> None:
    engine = engine_of(tiny(tiny_model_directory, precision))
    shared = prompt(1, 3 * BLOCK_TOKENS + 4)
    alike = [ScoreRequest((*shared, *prompt(i, 5 + i)), (prompt(i + 50, 3), prompt(i + 60, 1))) for i in range(6)]
    alike += [ScoreRequest(alike[0].tokens[: BLOCK_TOKENS + 9], alike[0].continuations)]
    alone = [engine.score([item])[0] for item in alike]
    assert engine.score(alike) == alone
    pack = Pack()
    for item in alike:
        pack.add(item_of(item, ()))
    own = sum(len(item.tokens) + 2 for item in alike)
    assert len(pack.tokens) == own - (5 * 3 + 1) * BLOCK_TOKENS
    prompts = [item.tokens for item in alike]
    together = engine.hidden_states(prompts, layer=2)
    assert all(torch.equal(a, engine.hidden_states([p], layer=2)[0]) for a, p in zip(together, prompts, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("head", [7, BLOCK_TOKENS, BLOCK_TOKENS + 5])
def test_a_head_of_any_length_is_computed_once_without_a_different_bit(
    tiny_model_directory: Path, precision: str, head: int
) -> None:
    engine = engine_of(tiny(tiny_model_directory, precision))
    prompts = [(*prompt(i % 2, head), *prompt(10 + i, 3 + 9 * i)) for i in range(6)]
    together = engine.hidden_states(prompts, layer=2, heads=[head] * 6)
    for tokens, states in zip(prompts, together, strict=True):
        assert torch.equal(states, engine.hidden_states([tokens], layer=2, heads=[head])[0])
        torch.testing.assert_close(states, engine.hidden_states([tokens], layer=2)[0], rtol=1e-2, atol=1e-2)
    pack = Pack()
    for tokens in prompts:
        pack.add(Item(tokens, ((0,),), (), head))
    assert len(pack.tokens) == sum(map(len, prompts)) - 4 * head


def test_rows_with_and_without_an_adapter_are_scored_in_one_call(
    model: LanguageModel, tiny_model_directory: Path, tmp_path: Path
) -> None:
    engine = engine_of(model)
    engine.add_attachment("a", write_adapter(tiny_model_directory, tmp_path / "a", seed=1))
    attached = [ScoreRequest(i.tokens, i.continuations, attachments=(AttachmentUse("a"),)) for i in items(3)]
    mixed = engine.score([*items(3), *attached])
    apart = [*engine.score(items(3)), *engine.score(attached)]
    for a, b in zip(mixed, apart, strict=True):
        assert a.log_likelihoods == pytest.approx(b.log_likelihoods, rel=1e-4)
    assert mixed[0].log_likelihoods != pytest.approx(mixed[3].log_likelihoods, rel=1e-3)


def test_distributions_sum_to_one_and_agree_with_scores(model: LanguageModel) -> None:
    engine = engine_of(model)
    said = prompt(2, 7)
    logprobs_TV = engine.distributions(prompt(1, 9), said)
    assert logprobs_TV.shape == (7, 259)
    assert logprobs_TV.dtype == torch.float32
    torch.testing.assert_close(logprobs_TV.exp().sum(-1), torch.ones(7))
    total = sum(float(logprobs_TV[i, token]) for i, token in enumerate(said))
    assert total == pytest.approx(expected(model, prompt(1, 9), said), abs=1e-3)


@torch.no_grad()
def test_hidden_states_are_the_networks_own(model: LanguageModel) -> None:
    prompts = [prompt(i, 4 + 11 * i) for i in range(4)]
    for layer in (0, 1):
        states = engine_of(model).hidden_states(prompts, layer=layer, batch_tokens=40)
        for tokens, state in zip(prompts, states, strict=True):
            wanted = model.network(torch.tensor([tokens]), output_hidden_states=True).hidden_states[layer][0]
            torch.testing.assert_close(state, wanted, rtol=1e-4, atol=1e-5)


def test_hidden_states_may_be_trained_on(model: LanguageModel) -> None:
    state = engine_of(model).hidden_states([prompt(1, 5)], layer=1)[0]
    weight = torch.ones(64, requires_grad=True)
    (state @ weight).sum().backward()
    assert weight.grad is not None


def test_what_cannot_be_scored_is_refused(model: LanguageModel) -> None:
    engine = engine_of(model)
    for bad in (ScoreRequest((), ((1,),)), ScoreRequest((1,), ()), ScoreRequest((1,), ((2,), ()))):
        with pytest.raises(InputError, match="no tokens"):
            engine.score([bad])
    with pytest.raises(ContextTooLong):
        engine.score([ScoreRequest(prompt(1, 510), (prompt(2, 9),))])
    with pytest.raises(ValueError, match="layer 3"):
        engine.hidden_states([prompt(1, 3)], layer=3)
