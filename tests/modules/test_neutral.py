"""The neutral texts, and that a module confined to the null space of ordinary inputs leaves these as they are."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement, adapted, linears_of
from tenure.modules.neutral import common_directions, neutral_sequences

PLACEMENT = Placement(rank=2)


def test_neutral_prompts_come_with_the_package(model: LanguageModel) -> None:
    sequences = neutral_sequences(model)
    assert len(sequences) > 200
    assert all(0 < start < len(tokens) <= 96 for tokens, start in sequences.values())


def test_directions_hold_the_share_that_is_asked_of_ordinary_inputs(model: LanguageModel) -> None:
    few, many = (common_directions(model, PLACEMENT, share) for share in (0.3, 0.8))
    assert set(few) == set(many) == set(linears_of(model.network, PLACEMENT))
    kept: list[torch.Tensor] = []
    key, linear = next(iter(linears_of(model.network, PLACEMENT).items()))
    hook = linear.register_forward_pre_hook(lambda _, given: kept.append(given[0][0]))
    with torch.no_grad():
        for tokens, _ in list(neutral_sequences(model, max_tokens=48).values())[1:200:7]:
            model.network.base_model(input_ids=torch.tensor([tokens]))
    hook.remove()
    x_NI = torch.nn.functional.normalize(torch.cat(kept), dim=1)
    held = [float((x_NI @ directions[key]).square().sum() / len(x_NI)) for directions in (few, many)]
    assert held[0] > 0.25 and held[1] > 0.7
    for directions_IK in many.values():
        assert directions_IK.shape[1] < directions_IK.shape[0]
        torch.testing.assert_close(directions_IK.T @ directions_IK, torch.eye(directions_IK.shape[1]))
    assert common_directions(model, PLACEMENT, 0.3) is few


def test_an_adapter_never_reads_spared_directions(model: LanguageModel, tmp_path: Path) -> None:
    spared = common_directions(model, PLACEMENT, 0.5)
    with adapted(model.network, PLACEMENT, seed=0, spared=spared) as adapter:
        optimiser = torch.optim.AdamW(adapter.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            out = model.network.base_model(input_ids=torch.tensor([[3, 5, 8, 2]])).last_hidden_state
            out.square().sum().backward()
            optimiser.step()
        adapter.save(tmp_path, base_name="tiny")
        moved = next(iter(adapter.linears.values()))
        assert (
            float((moved.a_RI.detach() @ spared[next(iter(adapter.linears))]).abs().max()) > 1e-2
        )  # it would have, if let
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    for key, directions_IK in spared.items():
        a_RI = tensors[f"base_model.model.{key}.lora_A.weight"]
        assert float((a_RI @ directions_IK).abs().max()) < 1e-5 * float(a_RI.abs().max()) + 1e-6
