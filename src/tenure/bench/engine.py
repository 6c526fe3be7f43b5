"""How fast the engine is, beside transformers' `generate` and llama.cpp on the same weights, in one run.

Contenders take turns, round by round, so that whatever else the machine does hits all of them; medians over rounds are
reported, and every round's number beside them. Tokens are counted as they are really said; reading the prompt is
included. `tenure bench engine` calls it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tenure.bench.llamacpp import as_bf16, tokens_a_second
from tenure.bench.record import ci95, write_result
from tenure.config import Config, EngineConfig
from tenure.errors import TenureError
from tenure.model.catalog import gguf_path, resolve
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel, load_language_model
from tenure.model.progress import Progress, silent
from tenure.model.requests import GenerationRequest, Sampling, ScoreRequest
from tenure.types import Message

NUM_ROUNDS = 5
NUM_TOKENS = 64
SUBJECTS = ("the sea", "a fox", "a lighthouse", "two brothers", "the first winter", "a clockmaker", "bees", "a train")
READ_BYTES = 2**28
PROMPT_TOKENS = 480
NUM_PROMPTS = 4
NUM_SCORED = 48


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that is measured once a round; `measure` returns a rate."""

    name: str
    measure: Callable[[], float]


def run(config: Config, *, seeds: str = "", progress: Progress | None = None) -> None:
    """Measure and write bench/results/engine.json. `seeds` vary the order of contenders, one round each."""
    numbers = [int(part) for part in seeds.split(",")] if seeds else list(range(NUM_ROUNDS))
    told = progress or silent
    model = load_language_model(
        resolve(config.model.name, config.cache, progress=progress),
        precision=config.model.precision,
        threads=config.model.threads,
        cache=config.cache,
    )
    engine = Engine(model, config.engine)
    contenders = own_contenders(model, engine)
    if model.precision == "bf16":
        contenders += int8_contenders(model, config.engine)
    others, reason = other_contenders(config, told)
    rounds = take_turns([*contenders, *others], numbers, told)
    metrics = summary(rounds, engine)
    metrics["llamacpp_skipped"] = reason
    metrics["precision"] = model.precision
    metrics["threads"] = torch.get_num_threads()
    write_result("engine", metrics, seeds=numbers)


def story_prompts() -> list[str]:
    """Prompts whose replies are longer than what is measured."""
    return [f"Write a long story about {subject}." for subject in SUBJECTS]


def own_contenders(model: LanguageModel, engine: Engine) -> list[Contender]:
    """The engine, transformers on the same weights, and what memory could give at most."""
    prompts = [model.chat.encode([Message("user", text)]) for text in story_prompts()]
    memory = torch.ones(READ_BYTES // 4, dtype=torch.int32)
    return [
        Contender("engine_1", lambda: engine_rate(engine, prompts[:1])),
        Contender("generate_1", lambda: transformers_rate(model, prompts[:1])),
        Contender("engine_8", lambda: engine_rate(engine, prompts)),
        Contender("generate_8", lambda: transformers_rate(model, prompts)),
        Contender("prefill", lambda: prefill_rate(engine)),
        Contender("score", lambda: score_rate(engine)),
        Contender("hidden_states", lambda: hidden_rate(engine, prompts[:1])),
        Contender("read", lambda: read_rate(memory)),
    ]


def int8_contenders(model: LanguageModel, settings: EngineConfig) -> list[Contender]:
    """The same engine with 8-bit weights, which `model.precision = "int8"` serves."""
    engine = Engine(replace(model, precision="int8"), settings)
    prompts = [model.chat.encode([Message("user", text)]) for text in story_prompts()]
    return [
        Contender("engine_int8_1", lambda: engine_rate(engine, prompts[:1])),
        Contender("engine_int8_8", lambda: engine_rate(engine, prompts)),
    ]


def other_contenders(config: Config, told: Progress) -> tuple[list[Contender], str]:
    """llama.cpp on the model's GGUF as published and at bf16, or the reason why not."""
    try:
        import_module("xllamacpp")
        published = gguf_path(config.model.name, config.cache, progress=told)
        same = as_bf16(published, published.with_suffix(".bf16.gguf"))
        contenders = []
        for label, path in (("llamacpp", same), ("llamacpp_published", published)):
            for num_rows in (1, 8):
                contenders.append(_llamacpp(f"{label}_{num_rows}", path, num_rows))
    except ImportError as error:
        return [], f"{error}; pip install 'tenure[bench]' to compare"
    except (TenureError, KeyError) as error:
        return [], f"no GGUF of {config.model.name}: {error}"
    return contenders, ""


def _llamacpp(name: str, path: Path, num_rows: int) -> Contender:
    prompts, num_threads = story_prompts()[:num_rows], torch.get_num_threads()
    return Contender(name, lambda: tokens_a_second(path, prompts, num_tokens=NUM_TOKENS, num_threads=num_threads))


def take_turns(contenders: Sequence[Contender], seeds: Sequence[int], told: Progress) -> dict[str, list[float]]:
    """Each contender once unmeasured, then once a round; the order turns from round to round."""
    rounds: dict[str, list[float]] = {c.name: [] for c in contenders}
    for i, contender in enumerate(contenders):
        told("warming up", i, len(contenders))
        contender.measure()
    for position, seed in enumerate(seeds):
        told("measuring", position, len(seeds))
        start = seed % len(contenders)
        for contender in (*contenders[start:], *contenders[:start]):
            rounds[contender.name].append(contender.measure())
    return rounds


def summary(rounds: Mapping[str, Sequence[float]], engine: Engine) -> dict[str, Any]:
    """Medians over rounds, those of the ratios within rounds, and `<key>_ci95`, half the interval of the mean."""
    per_round: dict[str, list[float]] = {}

    def compare(key: str, above: str, below: str) -> None:
        per_round[key] = [a / b for a, b in zip(rounds[above], rounds[below], strict=True)]

    compare("decode_ratio_1", "engine_1", "generate_1")
    compare("decode_ratio_8", "engine_8", "generate_8")
    compare("bandwidth_share", "engine_1", "read")
    per_round["bandwidth_share"] = [share * engine.num_weight_bytes for share in per_round["bandwidth_share"]]
    per_round["memory_read_gb_per_second"] = [rate / 1e9 for rate in rounds["read"]]
    per_round["prefill_tokens_per_second"] = list(rounds["prefill"])
    per_round["score_items_per_second"] = list(rounds["score"])
    per_round["hidden_states_milliseconds"] = [1000 / rate for rate in rounds["hidden_states"]]
    for name in ("engine", "engine_int8", "generate", "llamacpp", "llamacpp_published"):
        for number in (1, 8):
            if f"{name}_{number}" in rounds:
                per_round[f"{name}_tokens_per_second_{number}"] = list(rounds[f"{name}_{number}"])
                if name == "engine_int8":
                    compare(f"int8_decode_ratio_{number}", f"{name}_{number}", f"generate_{number}")
                if name.startswith("llamacpp"):
                    compare(f"{name}_ratio_{number}", f"engine_{number}", f"{name}_{number}")
    metrics: dict[str, Any] = {"weight_bytes": engine.num_weight_bytes}
    for key, values in per_round.items():
        half = ci95(values)
        metrics |= {key: median(values), f"{key}_ci95": None if math.isnan(half) else half}
    return {**metrics, "rounds": {name: list(values) for name, values in rounds.items()}}


def engine_rate(engine: Engine, prompts: Sequence[Sequence[int]]) -> float:
    """Tokens a second of all prompts together."""
    requests = [GenerationRequest(tuple(prompt), Sampling(max_tokens=NUM_TOKENS)) for prompt in prompts]
    started = time.perf_counter()
    completions = engine.generate(requests)
    return sum(len(c.tokens) for c in completions) / (time.perf_counter() - started)


@torch.inference_mode()
def transformers_rate(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> float:
    """Tokens a second of `generate`, left-padded to the longest prompt as its users do."""
    longest = max(len(prompt) for prompt in prompts)
    pad = min(model.chat.stop_tokens)
    tokens = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    network: Any = model.network
    started = time.perf_counter()
    out = network.generate(
        tokens, attention_mask=mask, max_new_tokens=NUM_TOKENS, do_sample=False, pad_token_id=pad, use_cache=True
    )
    seconds = time.perf_counter() - started
    stops = torch.tensor(sorted(model.chat.stop_tokens))
    said = torch.isin(out[:, longest:], stops).cumsum(dim=1) == 0
    return float(said.sum()) / seconds


def prefill_rate(engine: Engine) -> float:
    """Prompt tokens a second, nothing shared between prompts."""
    prompts = [tuple((7 * i + 31 * j) % 20_000 + 100 for j in range(PROMPT_TOKENS)) for i in range(NUM_PROMPTS)]
    started = time.perf_counter()
    engine.generate([GenerationRequest(prompt, Sampling(max_tokens=1)) for prompt in prompts])
    return NUM_PROMPTS * PROMPT_TOKENS / (time.perf_counter() - started)


def score_rate(engine: Engine) -> float:
    """Items a second: a prompt of 60 tokens, the first 20 of them common to all, and four choices of one to four."""
    shared = tuple(range(500, 520))
    items = [
        ScoreRequest(
            (*shared, *((11 * i + 13 * j) % 20_000 + 100 for j in range(40))),
            tuple(tuple(1000 + 10 * i + j for j in range(length)) for length in (1, 2, 3, 4)),
        )
        for i in range(NUM_SCORED)
    ]
    started = time.perf_counter()
    engine.score(items)
    return len(items) / (time.perf_counter() - started)


def hidden_rate(engine: Engine, prompts: Sequence[Sequence[int]]) -> float:
    """Calls a second of what the router asks for: one short prompt's states after 12 layers."""
    started = time.perf_counter()
    for _ in range(5):
        engine.hidden_states(prompts, layer=12)
    return 5 / (time.perf_counter() - started)


def read_rate(memory: torch.Tensor) -> float:
    """Bytes a second that all threads together read from memory, the best of three passes."""
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        memory.max()
        best = max(best, memory.numel() * memory.element_size() / (time.perf_counter() - started))
    return best
