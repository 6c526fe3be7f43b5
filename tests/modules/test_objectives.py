"""The losses are what their names say, at the positions they name."""

from __future__ import annotations

import torch

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement, adapted
from tenure.modules.objectives import Example, FrozenBelow, accumulate, distributions, divergence, example_losses

TOKENS = (1, 20, 30, 40, 50, 60, 2)


def test_hard_loss_is_the_cross_entropy_of_the_targets(model: LanguageModel) -> None:
    body = FrozenBelow(model.network, 0)
    loss = example_losses(model.network, body, [Example("a", TOKENS, 4), Example("b", TOKENS[:6], 3, weight=0.5)])
    logits_TV = model.network(input_ids=torch.tensor([TOKENS])).logits[0]
    entropy = torch.nn.functional.cross_entropy(logits_TV[3:6], torch.tensor(TOKENS[4:]))
    other = torch.nn.functional.cross_entropy(logits_TV[2:5], torch.tensor(TOKENS[3:6]))
    torch.testing.assert_close(loss, torch.stack([entropy, 0.5 * other]), atol=1e-5, rtol=1e-4)


def test_divergence_is_zero_from_itself_and_equals_the_full_sum_when_all_is_kept(model: LanguageModel) -> None:
    vocabulary = model.network.config.vocab_size
    (wanted,) = distributions(model.network, [(TOKENS, 2)], num_kept=vocabulary)
    same = torch.log_softmax(model.network(input_ids=torch.tensor([TOKENS])).logits[0, 1:-1], dim=-1)
    assert divergence(wanted, same.gather(-1, wanted.tokens_PK)).abs().max() < 1e-4
    other = torch.log_softmax(same + torch.randn(same.shape, generator=torch.Generator().manual_seed(0)), dim=-1)
    full = torch.nn.functional.kl_div(other, same, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(divergence(wanted, other.gather(-1, wanted.tokens_PK)), full, atol=1e-4, rtol=1e-3)


def test_pruned_divergence_is_a_lower_bound(model: LanguageModel) -> None:
    vocabulary = model.network.config.vocab_size
    (few,), (all_,) = (distributions(model.network, [(TOKENS, 2)], num_kept=k) for k in (8, vocabulary))
    other = torch.log_softmax(torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(1)), dim=-1)
    pruned_P, full_P = (divergence(w, other.gather(-1, w.tokens_PK)) for w in (few, all_))
    assert bool((pruned_P <= full_P + 1e-5).all()) and bool((pruned_P > 0).all())


def test_an_adapted_network_starts_as_the_base_and_moves_away(model: LanguageModel) -> None:
    (wanted,) = distributions(model.network, [(TOKENS, 2)], num_kept=16)
    kept = Example("k", TOKENS, 2, hard=0.0, soft=1.0, wanted=wanted)
    with adapted(model.network, Placement(rank=2), seed=0) as adapter:
        body = FrozenBelow(model.network, 0)
        assert float(example_losses(model.network, body, [kept]).detach()) < 1e-5
        with torch.no_grad():
            for linear in adapter.linears.values():
                linear.b_OR.normal_(generator=torch.Generator().manual_seed(0))
        assert float(example_losses(model.network, body, [kept]).detach()) > 1e-3


def test_accumulating_in_small_trees_adds_up_to_the_same_gradient(model: LanguageModel) -> None:
    examples = [Example(str(i), (1, 20, 30 + i, 40, 50 + i), 3) for i in range(4)]
    gradients = []
    for max_tokens in (5, 100):
        with adapted(model.network, Placement(rank=2), seed=0) as adapter:
            accumulate(model.network, FrozenBelow(model.network, 0), examples, max_tokens=max_tokens)
            gradients.append([p.grad for p in adapter.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)
