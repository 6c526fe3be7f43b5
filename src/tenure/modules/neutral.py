"""The package's own neutral prompts and texts (`neutral.jsonl`), and what a base's linears make of such ordinary input.

A module that may not read the directions in which ordinary inputs lie can't change what the base makes of them: the
null-space constraint of AlphaEdit (Fang et al. 2025, eq. 6 to 9) and of gradient projection memory (Saha et al. 2021,
eq. 8), here on LoRA's A. Called by learners. Shapes: N tokens, I inputs of a linear, K directions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement, linears_of
from tenure.modules.lora import reply_tokens
from tenure.types import Message

NUM_TEXTS = 48
TEXT_TOKENS = 48
NUM_ROWS = 1024  # input vectors kept of each linear
MAX_DIRECTIONS = 128

_found: WeakKeyDictionary[nn.Module, dict[tuple[Placement, float], dict[str, Tensor]]] = WeakKeyDictionary()


def neutral_sequences(model: LanguageModel, *, max_tokens: int = 96) -> dict[str, tuple[tuple[int, ...], int]]:
    """{id: (tokens, start)} of the neutral prompts with their replies and of the texts, cut at `max_tokens`.

    The texts are fixed; what the student must keep on them is the distribution of whatever base is given.
    """
    sequences = {}
    lines = resources.files("tenure.modules").joinpath("neutral.jsonl").read_text("utf8").splitlines()
    for entry in map(json.loads, lines):
        if "text" in entry:
            tokens = tuple(model.chat.encode_text(entry["text"], begin=True))[:max_tokens]
            start = min(4, len(tokens) - 1)
        else:
            whole, start = reply_tokens(model, (Message("user", entry["prompt"]),), entry["reply"])
            tokens = whole[:max_tokens] if entry["ended"] else whole[:-1][:max_tokens]
        if 0 < start < len(tokens) <= model.max_context_tokens:
            sequences[f"neutral:{entry['id']}"] = (tokens, start)
    return sequences


def common_directions(model: LanguageModel, placement: Placement, share: float) -> dict[str, Tensor]:
    """{PEFT key: [I, K] orthonormal directions that hold `share` of the energy of a linear's ordinary inputs}.

    Computed once for a network and placement, from the base's own forward passes over the neutral texts.
    """
    known = _found.setdefault(model.network, {})
    if (placement, share) not in known:
        known[placement, share] = _directions(model, placement, share)
    return known[placement, share]


def _directions(model: LanguageModel, placement: Placement, share: float) -> dict[str, Tensor]:
    sequences = list(neutral_sequences(model, max_tokens=TEXT_TOKENS).values())
    chosen = sequences[:: max(1, len(sequences) // NUM_TEXTS)]
    directions: dict[str, Tensor] = {}
    of_inputs: dict[bytes, Tensor] = {}  # q, k and v read the same input
    every = max(1, sum(len(tokens) for tokens, _ in chosen) // NUM_ROWS)
    with _recorded(linears_of(model.network, placement), every) as inputs, torch.no_grad():
        for tokens, _ in chosen:
            model.network.base_model(input_ids=torch.tensor([tokens]), use_cache=False)
    for key, rows in inputs.items():
        x_NI = torch.cat(rows)
        mark = x_NI[:, : 1 + x_NI.shape[1] // 64].contiguous().numpy().tobytes()
        if mark not in of_inputs:
            of_inputs[mark] = _leading(x_NI, share)
        directions[key] = of_inputs[mark]
    return directions


@contextmanager
def _recorded(linears: Mapping[str, nn.Linear], every: int) -> Iterator[dict[str, list[Tensor]]]:
    """Within, one in `every` input vectors of the linears is kept, in float32; the first of a text always."""
    inputs: dict[str, list[Tensor]] = {key: [] for key in linears}

    def keep(key: str) -> RemovableHandle:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            rows_NI = given[0].detach().reshape(-1, given[0].shape[-1])
            inputs[key].append(rows_NI[::every].float().clone())

        return linears[key].register_forward_pre_hook(hook)

    hooks = [keep(key) for key in linears]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def _leading(x_NI: Tensor, share: float) -> Tensor:
    """[I, K] the fewest principal directions (uncentred) with `share` of the rows' energy, `MAX_DIRECTIONS` at most.

    Each row counts at length 1: the first token's, on which attention rests, is often a hundred times as long.
    """
    rows_NI = torch.nn.functional.normalize(x_NI, dim=1)
    most = min(MAX_DIRECTIONS, x_NI.shape[1] - 1, x_NI.shape[0])
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        _, values_K, directions_IK = torch.svd_lowrank(rows_NI, q=most, niter=4)
    energy_K = values_K.square().cumsum(0) / rows_NI.square().sum()
    return directions_IK[:, : int((energy_K < share).sum()) + 1].contiguous()
