"""Fused and packed parts do what transformers' own parts do, for every architecture that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from served import engine_of, greedy, prompt, request, tiny, write_adapter
from tiny import byte_tokenizer
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from tenure.errors import BrokenModel
from tenure.model.language_model import LanguageModel, load_language_model
from tenure.model.nn.fused_parts import FusedAttention, FusedMlp, FusedRmsNorm
from tenure.model.precision import int8, packed, packs_bf16
from tenure.types import AttachmentUse

SIZES: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# (architecture, further settings, fused kinds)
ARCHITECTURES = [
    ("llama", {}, {FusedAttention, FusedMlp, FusedRmsNorm}),
    ("mistral", {"sliding_window": 12}, {FusedAttention, FusedMlp, FusedRmsNorm}),
    ("qwen2", {"tie_word_embeddings": True}, {FusedAttention, FusedMlp, FusedRmsNorm}),
    ("qwen3", {}, {FusedMlp, FusedRmsNorm}),
    (
        "gemma3_text",
        {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 16},
        {FusedMlp},
    ),
]


def written(kind: str, settings: dict[str, Any], directory: Path) -> LanguageModel:
    """A tiny random model of an architecture, through the same loading as any other."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **settings}))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.15)  # sharp enough that a wrong mask shows
    network.save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return load_language_model(directory, precision="fp32")


@pytest.mark.parametrize(("kind", "settings", "fused"), ARCHITECTURES, ids=[a[0] for a in ARCHITECTURES])
def test_every_architecture_says_what_transformers_says(
    kind: str, settings: dict[str, Any], fused: set[type], tmp_path: Path
) -> None:
    model = written(kind, settings, tmp_path / "model")
    engine = engine_of(model)
    kinds = {type(m) for m in engine._network._network.modules()}
    assert kinds & {FusedAttention, FusedMlp, FusedRmsNorm} == fused
    tokens, said = prompt(1, 40), prompt(2, 9)
    with torch.no_grad():
        wanted = model.network(torch.tensor([[*tokens, *said]])).logits[0, 39:-1].log_softmax(-1)
    torch.testing.assert_close(engine.distributions(tokens, said), wanted, rtol=1e-3, atol=1e-3)
    requests = [request(i, 5 + 13 * i, 12) for i in range(4)]
    for asked, completion in zip(requests, engine.generate(requests), strict=True):
        assert completion.tokens == greedy(model.network, asked.tokens, 12, model.chat.stop_tokens)
    adapter = write_adapter(tmp_path / "model", tmp_path / "adapter", seed=1)
    engine.add_attachment("a", adapter)
    engine.add_weights("w", [(adapter, 1.0)])
    attached = engine.distributions(tokens, said, attachments=(AttachmentUse("a"),))
    torch.testing.assert_close(attached, engine.distributions(tokens, said, weights="w"), rtol=1e-3, atol=1e-3)
    assert (attached - wanted).abs().max() > 0.02


def test_an_architecture_without_decoder_layers_is_refused(tmp_path: Path) -> None:
    settings = {"n_embd": 64, "n_layer": 1, "n_head": 2, "vocab_size": 259, "n_positions": 64}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **settings))
    network.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BrokenModel, match="GPT2LMHeadModel"):
        engine_of(load_language_model(tmp_path, precision="fp32"))


def test_bf16_is_bit_identical_to_transformers(tiny_model_directory: Path) -> None:
    model = tiny(tiny_model_directory, "bf16")
    tokens = prompt(3, 33)
    with torch.no_grad():
        wanted = model.network.model(torch.tensor([tokens])).last_hidden_state[0]
    ours = engine_of(model).hidden_states([tokens], layer=2)[0]
    normed = model.network.model.norm(ours.to(torch.bfloat16))
    assert torch.equal(normed, wanted)


needs_bf16 = pytest.mark.skipif(not packs_bf16(), reason="this processor has no bf16 kernels in oneDNN")


@pytest.mark.parametrize("dtype", [pytest.param(torch.bfloat16, marks=needs_bf16), torch.float32])
@pytest.mark.parametrize("inputs", [576, 1536])
def test_packed_products_are_the_same_whatever_rows_stand_beside(inputs: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(128, inputs) * 0.05).to(dtype)
    x = torch.randn(64, inputs).to(dtype)
    laid_out = packed(weight, dtype)
    whole = laid_out.product(x, None)
    for number in (1, 2, 3, 5, 8, 13, 31):
        parts = [laid_out.product(part, None) for part in x.split(number)]
        assert torch.equal(torch.cat(parts), whole), number
    torch.testing.assert_close(whole, functional.linear(x, weight))
    if dtype == torch.bfloat16:
        assert torch.equal(functional.linear(x, weight), whole)


def test_int8_is_close_and_both_of_its_ways_agree() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(96, 256) * 0.05, torch.randn(96).bfloat16()
    x = torch.randn(16, 256).bfloat16()
    served = int8(weight)
    many, few = served.product(x, bias), torch.cat([served.product(row, bias) for row in x.split(1)])
    exact = functional.linear(x.float(), weight, bias.float())
    assert (many.float() - exact).norm() / exact.norm() < 0.02
    torch.testing.assert_close(few, many, rtol=0.02, atol=0.02)
    assert int8(torch.zeros(8, 16)).product(torch.ones(1, 16).bfloat16(), None).abs().max() == 0


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_every_precision_batches_without_a_difference(tiny_model_directory: Path, precision: str) -> None:
    model = tiny(tiny_model_directory, precision)
    requests = [request(i, 4 + 9 * i) for i in range(4)]
    together = engine_of(model).generate(requests)
    assert [c.tokens for c in together] == [engine_of(model).generate([r])[0].tokens for r in requests]
