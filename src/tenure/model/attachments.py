"""Adapters as the engine applies them: read from PEFT directories, checked against the network, stacked for a step.

Knows no versions or audiences (those are decided before a request comes here); called by the engine.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tenure.errors import BrokenModel, NotFound
from tenure.model.nn.attachable_linear import AttachableLinear
from tenure.model.nn.plan import LowRank, RowTerms, Stacked, stack_adapters
from tenure.types import AttachmentUse

PREFIX = "base_model.model."
MAX_STACKS = 16
# Settings of PEFT that change the arithmetic in ways that the engine doesn't apply: refused rather than ignored.
UNSUPPORTED = (
    "use_dora",
    "fan_in_fan_out",
    "modules_to_save",
    "megatron_config",
    "trainable_token_indices",
    "layer_replication",
)


def read_low_rank(directory: Path, digest: str, shapes: Mapping[str, tuple[int, int]]) -> LowRank:
    """Read a PEFT LoRA directory. `shapes` gives (out, in) of each linear layer that may be named.

    Factors are float32, B multiplied by alpha / r (alpha / sqrt(r) with rsLoRA).
    Raises BrokenModel when a file is missing or unreadable, or when the adapter doesn't fit the network.
    """
    settings, tensors = _read(directory)
    strange = [key for key in UNSUPPORTED if settings.get(key)]
    if settings.get("peft_type") != "LORA" or strange or settings.get("bias", "none") != "none":
        raise BrokenModel(
            f"the adapter in {directory} is {settings.get('peft_type')} with {strange or settings.get('bias')}; "
            "the engine applies plain LoRA without bias"
        )
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for key in sorted(tensors):
        name, side, _ = key.removeprefix(PREFIX).rpartition(".lora_A.weight")
        if not side:
            if not key.endswith(".lora_B.weight"):
                raise BrokenModel(f"the adapter in {directory} holds {key!r}, which is no LoRA factor")
            continue
        b_key = f"{key.removesuffix('.lora_A.weight')}.lora_B.weight"
        if b_key not in tensors:
            raise BrokenModel(f"the adapter in {directory} has {key!r} but no {b_key!r}")
        a, b = tensors[key].float(), tensors[b_key].float()
        if name not in shapes or (b.shape[0], a.shape[1]) != shapes[name] or a.shape[0] != b.shape[1]:
            raise BrokenModel(
                f"the adapter in {directory} doesn't fit this base model at {name!r}: "
                f"A {tuple(a.shape)}, B {tuple(b.shape)}, layer {shapes.get(name, 'unknown')}; "
                "adapters belong to the base they were trained on"
            )
        factors[name] = (a, b * _scale(settings, name, a.shape[0]))
    if not factors:
        raise BrokenModel(f"the adapter in {directory} holds no factors")
    return LowRank(digest, factors)


def _read(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        settings = json.loads((directory / "adapter_config.json").read_text("utf8"))
        return settings, load_file(directory / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise BrokenModel(f"can't read the adapter in {directory}: {error}; give a PEFT LoRA directory") from error


def _scale(settings: Mapping[str, Any], name: str, rank: int) -> float:
    alpha = settings["lora_alpha"]
    for pattern, value in (settings.get("alpha_pattern") or {}).items():
        if name == pattern or name.endswith(f".{pattern}"):
            alpha = value
    return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def part_shapes(layers: Iterable[AttachableLinear]) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer of the model, by its module path."""
    return {part.name: (part.end - part.start, layer.in_features) for layer in layers for part in layer.parts}


def with_deltas(weights: Mapping[str, Tensor], deltas: Sequence[tuple[Path, float]]) -> dict[str, Tensor]:
    """The weights [O, I], by the name of their linear, that (directory, scale) deltas change, with all merged in.

    W + sum of scale * B A over the deltas in order (Hu et al. 2021, LoRA, section 4.1, B including alpha / r), summed
    in float32 and rounded once to the weight's dtype. Raises BrokenModel for a delta that can't be read or doesn't fit.
    """
    shapes = {name: (weight.shape[0], weight.shape[1]) for name, weight in weights.items()}
    sums: dict[str, Tensor] = {}
    for directory, scale in deltas:
        for name, (a_RI, b_OR) in read_low_rank(directory, str(directory), shapes).factors.items():
            if name not in sums:
                sums[name] = weights[name].detach().float().clone()
            sums[name].addmm_(b_OR, a_RI, alpha=scale)
    return {name: total.to(weights[name].dtype) for name, total in sums.items()}


Used = tuple[tuple[LowRank, float], ...]


class Shelf:
    """The loaded adapters by digest, and the stacks of those that run together.

    Adding and dropping never waits for a step: rows hold the adapters they began with.
    """

    def __init__(self, layers: Mapping[str, AttachableLinear], dtype: torch.dtype) -> None:
        self._shapes = part_shapes(layers.values())
        self._parts = {key: layer.parts for key, layer in layers.items()}
        self._dtype = dtype
        self._adapters: dict[str, LowRank] = {}
        self._lock = threading.Lock()
        self._stacks: OrderedDict[tuple[int, ...], tuple[tuple[LowRank, ...], dict[str, Stacked]]] = OrderedDict()

    def add(self, digest: str, directory: Path) -> None:
        """Load an adapter; a digest that is there already is left as it is (it names the content)."""
        if digest in self._adapters:
            return
        loaded = read_low_rank(directory, digest, self._shapes)
        served = {name: (a.to(self._dtype), b.to(self._dtype)) for name, (a, b) in loaded.factors.items()}
        with self._lock:
            self._adapters = {**self._adapters, digest: LowRank(digest, served)}

    def drop(self, digest: str) -> None:
        """Forget an adapter; rows that use it finish with it."""
        with self._lock:
            self._adapters = {d: adapter for d, adapter in self._adapters.items() if d != digest}

    @property
    def digests(self) -> frozenset[str]:
        """What is loaded."""
        return frozenset(self._adapters)

    def take(self, uses: Sequence[AttachmentUse]) -> Used:
        """The adapters of these uses. Raises NotFound for one that isn't loaded."""
        adapters = self._adapters
        missing = [use.digest for use in uses if use.digest not in adapters]
        if missing:
            raise NotFound(f"attachment {missing[0]!r} isn't loaded; add it to the engine first")
        return tuple((adapters[use.digest], use.scale) for use in uses if use.scale != 0.0)

    def terms(self, rows: Sequence[tuple[Used, int]]) -> RowTerms | None:
        """Low-rank terms for packed tokens: each row's adapters and number of tokens. None when nobody has any."""
        distinct = list({id(adapter): adapter for used, _ in rows for adapter, _ in used}.values())
        if not distinct:
            return None
        distinct.sort(key=lambda adapter: adapter.digest)
        column = {id(adapter): i for i, adapter in enumerate(distinct)}
        scales = torch.zeros(len(rows), len(distinct))
        for i, (used, _) in enumerate(rows):
            for adapter, scale in used:
                scales[i, column[id(adapter)]] += scale
        counts = torch.tensor([count for _, count in rows])
        return RowTerms(self._stack(distinct), torch.repeat_interleave(scales, counts, dim=0).to(self._dtype))

    def _stack(self, adapters: Sequence[LowRank]) -> dict[str, Stacked]:
        key = tuple(id(adapter) for adapter in adapters)
        if key not in self._stacks:
            self._stacks[key] = (tuple(adapters), stack_adapters(adapters, self._parts))
            while len(self._stacks) > MAX_STACKS:
                self._stacks.popitem(last=False)
        self._stacks.move_to_end(key)
        return self._stacks[key][1]
