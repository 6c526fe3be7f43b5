"""Deltas merge as PEFT merges them, in order, and leave without a trace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from tenure.errors import BrokenModel, ModelError
from tenure.model.applied import applied, merged_parameters
from tenure.model.language_model import load_language_model, parameter_digest

# PEFT still asks transformers for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

MODULES = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
TOKENS = torch.arange(3, 40).reshape(1, -1)


def network_of(directory: Path, precision: str = "fp32") -> PreTrainedModel:
    """The tiny model's network."""
    return load_language_model(directory, precision=precision).network


def write_delta(directory: Path, network: PreTrainedModel, *, seed: int, names: Sequence[str] = MODULES) -> Path:
    """A random rank-4 delta in PEFT layout, large enough to change every answer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in names:
        num_out, num_in = network.get_parameter(f"{name}.weight").shape
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = torch.randn(4, num_in, generator=generator) / 8
        tensors[f"{key}.lora_B.weight"] = torch.randn(num_out, 4, generator=generator) / 8
    directory.mkdir()
    save_file(tensors, directory / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": list(names)}
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    return directory


def logits(network: torch.nn.Module) -> Tensor:
    """[1, 37, V] of a fixed prompt."""
    with torch.no_grad():
        found: Tensor = network(TOKENS).logits
    return found


def test_merging_is_pefts(tiny_model_directory: Path, tmp_path: Path) -> None:
    network = network_of(tiny_model_directory)
    delta = write_delta(tmp_path / "delta", network, seed=1)
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_directory), delta)
    with torch.no_grad():
        expected = peft(TOKENS).logits
    with applied(network, [(delta, 1.0)]) as changed:
        assert changed is network
        torch.testing.assert_close(logits(network), expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(logits(network), logits(network_of(tiny_model_directory)), atol=1e-3)


def test_what_peft_saves_can_be_applied(tiny_model_directory: Path, tmp_path: Path) -> None:
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model_directory),
        LoraConfig(r=3, lora_alpha=5, target_modules=["v_proj", "up_proj"], init_lora_weights=False),
    )
    peft.save_pretrained(tmp_path / "delta")
    with torch.no_grad():
        expected = peft.eval()(TOKENS).logits
    with applied(network_of(tiny_model_directory), [(tmp_path / "delta", 1.0)]) as network:
        torch.testing.assert_close(logits(network), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_leaving_restores_every_bit(tiny_model_directory: Path, tmp_path: Path, precision: str) -> None:
    network = network_of(tiny_model_directory, precision)
    deltas = [(write_delta(tmp_path / str(n), network, seed=n), scale) for n, scale in enumerate((1.0, -0.3, 7.0))]
    before, answer = parameter_digest(network), logits(network)
    with applied(network, deltas):
        assert parameter_digest(network) != before
        assert {p.dtype for p in network.parameters()} == {answer.dtype}
        with applied(network, deltas[:1]):  # contexts nest
            assert parameter_digest(network) != before
    assert parameter_digest(network) == before
    assert torch.equal(logits(network), answer)


def test_leaving_by_an_error_restores_too(tiny_model_directory: Path, tmp_path: Path) -> None:
    network = network_of(tiny_model_directory)
    before = parameter_digest(network)
    with pytest.raises(KeyboardInterrupt), applied(network, [(write_delta(tmp_path / "d", network, seed=0), 1.0)]):
        raise KeyboardInterrupt
    assert parameter_digest(network) == before


def test_the_sum_is_rounded_once(tiny_model_directory: Path, tmp_path: Path) -> None:
    """Many small deltas that bf16 would swallow one by one still arrive together."""
    network = network_of(tiny_model_directory, "bf16")
    deltas = [(write_delta(tmp_path / str(n), network, seed=n), 0.01) for n in range(8)]
    merged = merged_parameters(network, deltas)
    assert merged.keys() == {f"{name}.weight" for name in MODULES}
    exact = network.get_parameter(f"{MODULES[0]}.weight").double()
    for directory, scale in deltas:
        factors = _factors(directory, MODULES[0])
        exact += scale * 2.0 * (factors[1].double() @ factors[0].double())
    close = merged[f"{MODULES[0]}.weight"]
    assert close.dtype == torch.bfloat16
    assert (close.double() - exact).abs().max() <= exact.abs().max() * 2**-8
    assert parameter_digest(network) == parameter_digest(network_of(tiny_model_directory, "bf16"))


def _factors(directory: Path, name: str) -> tuple[Tensor, Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(directory / "adapter_model.safetensors")
    key = f"base_model.model.{name}"
    return tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"]


def test_order_is_kept_and_repeatable(tiny_model_directory: Path, tmp_path: Path) -> None:
    network = network_of(tiny_model_directory, "bf16")
    deltas = [(write_delta(tmp_path / str(n), network, seed=n), 1.0) for n in range(3)]
    first, again = merged_parameters(network, deltas), merged_parameters(network, deltas)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert merged_parameters(network, []) == {}


def test_changes_within_are_told_and_undone(tiny_model_directory: Path, tmp_path: Path) -> None:
    network = network_of(tiny_model_directory)
    delta = write_delta(tmp_path / "d", network, seed=0)
    before = parameter_digest(network)
    with pytest.raises(ModelError, match="the network is restored"), applied(network, [(delta, 1.0)]), torch.no_grad():
        network.get_parameter(f"{MODULES[0]}.weight").add_(1)
    assert parameter_digest(network) == before


def test_changes_elsewhere_are_told(tiny_model_directory: Path, tmp_path: Path) -> None:
    network = network_of(tiny_model_directory)
    delta = write_delta(tmp_path / "d", network, seed=0)
    with pytest.raises(ModelError, match="load it again"), applied(network, [(delta, 1.0)]), torch.no_grad():
        network.get_parameter("model.norm.weight").add_(1)


def test_a_delta_that_does_not_fit_changes_nothing(tiny_model_directory: Path, tmp_path: Path) -> None:
    network = network_of(tiny_model_directory)
    before = parameter_digest(network)
    good = write_delta(tmp_path / "good", network, seed=0)
    bad = write_delta(tmp_path / "bad", network, seed=0)
    save_file(
        {f"base_model.model.{MODULES[0]}.lora_{side}.weight": torch.zeros(4, 4) for side in "AB"},
        bad / "adapter_model.safetensors",
    )
    with pytest.raises(BrokenModel, match="doesn't fit"), applied(network, [(good, 1.0), (bad, 1.0)]):
        pass
    with pytest.raises(BrokenModel, match="can't read"), applied(network, [(tmp_path / "none", 1.0)]):
        pass
    assert parameter_digest(network) == before


def test_a_tied_head_is_not_changed(tiny_model_directory: Path, tmp_path: Path) -> None:
    """lm_head and the embedding are one tensor here: a delta for the one would change the other unasked."""
    network = network_of(tiny_model_directory)
    delta = write_delta(tmp_path / "d", network, seed=0)
    num_words, width = network.get_input_embeddings().weight.shape
    tensors = {
        "base_model.model.lm_head.lora_A.weight": torch.ones(4, width),
        "base_model.model.lm_head.lora_B.weight": torch.ones(num_words, 4),
    }
    save_file(tensors, delta / "adapter_model.safetensors")
    with pytest.raises(BrokenModel, match="lm_head"), applied(network, [(delta, 1.0)]):
        pass
