"""Adapters go on, have true gradients, come off without a trace, and load in PEFT with the same logits."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn

from tenure.errors import LearnError
from tenure.model.language_model import LanguageModel, parameter_digest
from tenure.model.lowrank import LowRankLinear, Placement, adapted

# transformers renames a property that PEFT still asks for.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TOKENS = torch.tensor([[1, 20, 30, 40, 50, 60, 2]])


def test_gradients_are_those_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(6, 5).requires_grad_(False)
    layer = LowRankLinear(linear, 3, 1.5, generator)
    nn.init.normal_(layer.b_OR, generator=generator)
    x = torch.randn(2, 4, 6, generator=generator, requires_grad=True)
    wanted = torch.randn(2, 4, 5, generator=generator)
    inputs = (x, layer.a_RI, layer.b_OR)
    own = torch.autograd.grad((layer(x) * wanted).sum(), inputs)
    plain = linear(x) + 1.5 * (x @ layer.a_RI.T) @ layer.b_OR.T
    torch.testing.assert_close(layer(x), plain)
    for mine, theirs in zip(own, torch.autograd.grad((plain * wanted).sum(), inputs), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("placement", [Placement(rank=2), Placement(4, 4.0, ("down_proj", "q_proj"), first_layer=1)])
def test_saved_adapters_give_the_same_logits_in_peft(
    model: LanguageModel, tmp_path: Path, placement: Placement
) -> None:
    with adapted(model.network, placement, seed=0) as adapter:
        for linear in adapter.linears.values():
            nn.init.normal_(linear.b_OR, generator=torch.Generator().manual_seed(1))
        own = model.network(input_ids=TOKENS).logits
        adapter.save(tmp_path, base_name="tiny")
    base = model.network(input_ids=TOKENS).logits
    theirs = PeftModel.from_pretrained(copy.deepcopy(model.network), str(tmp_path))(input_ids=TOKENS).logits
    torch.testing.assert_close(own, theirs, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(own, base, atol=1e-2)


def test_leaving_restores_the_network_even_after_an_error(model: LanguageModel) -> None:
    names, digest = [n for n, _ in model.network.named_modules()], parameter_digest(model.network)
    with pytest.raises(ZeroDivisionError), adapted(model.network, Placement(rank=2), seed=0):
        _ = 1 // 0
    assert [n for n, _ in model.network.named_modules()] == names
    assert parameter_digest(model.network) == digest
    assert not any(p.requires_grad for p in model.network.parameters())


@pytest.mark.parametrize("placement", [Placement(first_layer=2), Placement(rank=0), Placement(linears=("qkv",))])
def test_placements_that_train_nothing_are_refused(model: LanguageModel, placement: Placement) -> None:
    with pytest.raises(LearnError), adapted(model.network, placement, seed=0):
        pass
