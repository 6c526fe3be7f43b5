"""What the engine's tests share: engines on the tiny model, prompts, and PEFT adapters on disk."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tenure.config import EngineConfig
from tenure.model import precision as weights
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel, load_language_model
from tenure.model.requests import GenerationRequest, Sampling

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tiny(directory: Path, precision: str = "fp32") -> LanguageModel:
    """The tiny model on one thread."""
    torch.set_num_threads(1)
    return load_language_model(directory, precision=precision)


def tiny_of(directory: Path, kind: str, patch: pytest.MonkeyPatch) -> LanguageModel:
    """The tiny model at a precision; "compiled": in fp32 with values that bf16 holds, read so by replies."""
    if kind != "compiled":
        return tiny(directory, kind)
    if not shutil.which("g++"):
        pytest.skip("there is no C++ compiler here: fp32 is served without compiled products")
    patch.setattr(weights, "LEAST_NARROW", 0)
    model = tiny(directory)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.copy_(parameter.bfloat16().float())
    return model


def engine_of(model: LanguageModel, **settings: int) -> Engine:
    """An engine with a small batch and small chunks, so that tests meet their edges."""
    small = {"max_batch": 4, "max_context_tokens": 512, "prefill_chunk_tokens": 16}
    return Engine(model, EngineConfig(**{**small, **settings}))  # type: ignore[arg-type]


def prompt(seed: int, length: int) -> tuple[int, ...]:
    """Random tokens that are no control tokens."""
    draw = random.Random(seed)
    return tuple(draw.randrange(3, 259) for _ in range(length))


def request(seed: int, length: int = 20, max_tokens: int = 10, **more: Any) -> GenerationRequest:
    """A greedy request; `more` are further fields of GenerationRequest."""
    return GenerationRequest(prompt(seed, length), Sampling(max_tokens=max_tokens), **more)


def write_adapter(base: Path, directory: Path, *, seed: int, rank: int = 4, alpha: int = 8, **more: Any) -> Path:
    """A random LoRA as PEFT writes it, large enough to change what the tiny model says."""
    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        config = LoraConfig(r=rank, lora_alpha=alpha, **{"target_modules": LINEARS, **more})
        peft = get_peft_model(network, config)
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.15)
        peft.save_pretrained(directory)
    return directory


def with_peft(base: Path, directory: Path) -> Any:
    """The tiny model with an adapter put on by PEFT itself."""
    with quiet_peft():
        network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(network, directory).eval()


@contextmanager
def quiet_peft() -> Iterator[None]:
    """PEFT 0.21 reads a property that transformers 5.24 renamed; nothing that we could call otherwise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


@torch.no_grad()
def greedy(network: Any, tokens: tuple[int, ...], number: int, stops: frozenset[int]) -> tuple[int, ...]:
    """What a network says, token by token, without any cache: the plainest reference there is."""
    said: list[int] = []
    while len(said) < number:
        logits = network(input_ids=torch.tensor([[*tokens, *said]]), use_cache=False).logits[0, -1]
        token = int(logits.argmax())
        if token in stops:
            break
        said.append(token)
    return tuple(said)
