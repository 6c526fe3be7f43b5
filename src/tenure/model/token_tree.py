"""Many token sequences as one tree: what they share at the front is computed once, and nothing is padded.

A chat template starts every prompt with the same words; in a tree those are one branch. Linear layers see each node
once; attention (`tenure_tree`, a function of transformers' attention interface) sees whole sequences, so each gets the
hidden states that it would get alone. Knows no particular model; called by the training objectives.

Tensors: N nodes (tokens of the tree), S sequences, L longest sequence, H query heads, G key/value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

ATTENTION_NAME = "tenure_tree"


@dataclass(frozen=True, slots=True)
class TokenTree:
    """`tokens_N` with their `positions_N`, and each sequence's nodes in order.

    `paths_SL` holds the same nodes padded at the right; `places_N` says where in it (flat) a node occurs first.
    """

    tokens_N: Tensor
    positions_N: Tensor
    nodes: tuple[tuple[int, ...], ...]
    paths_SL: Tensor
    places_N: Tensor


def token_tree(sequences: Sequence[Sequence[int]], device: torch.device | None = None) -> TokenTree:
    """Merge sequences by their common beginnings; the tensors lie on `device`, the network's."""
    children: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    depths: list[int] = []
    places: list[int] = []
    nodes = []
    longest = max(len(sequence) for sequence in sequences)
    for row, sequence in enumerate(sequences):
        parent, path = -1, []
        for depth, token in enumerate(sequence):
            node = children.setdefault((parent, token), len(tokens))
            if node == len(tokens):
                tokens.append(token)
                depths.append(depth)
                places.append(row * longest + depth)
            path.append(node)
            parent = node
        nodes.append(tuple(path))
    padded = [[*path, *[path[-1]] * (longest - len(path))] for path in nodes]
    tokens_N, depths_N, padded_SL, places_N = (
        torch.tensor(numbers, device=device) for numbers in (tokens, depths, padded, places)
    )
    return TokenTree(tokens_N, depths_N, tuple(nodes), padded_SL, places_N)


class _Paths(torch.autograd.Function):
    """Rows of a tree laid out as sequences. Its gradient adds up row by row, which indexing's own does far slower."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, paths_SL: Tensor) -> Tensor:
        ctx.paths_SL, ctx.num_nodes = paths_SL, len(x_NC)
        return x_NC[paths_SL]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        g_SLC = gradients[0]
        summed_NC = torch.zeros(ctx.num_nodes, g_SLC.shape[-1], dtype=torch.float32, device=g_SLC.device)
        summed_NC.index_add_(0, ctx.paths_SL.reshape(-1), g_SLC.reshape(-1, g_SLC.shape[-1]).float())
        return summed_NC.to(g_SLC.dtype), None


def attend_along_paths(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree: TokenTree,
    scaling: float,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface over a tree: [1, H, N, D] queries to ([1, N, H, D], no weights).

    Padding stands at the right, where causal attention of real tokens can't see it. Raises ValueError for a sequence
    longer than a sliding window.
    """
    longest = tree.paths_SL.shape[1]
    if sliding_window is not None and longest > sliding_window:
        raise ValueError(f"a training sequence of {longest} tokens exceeds the attention window of {sliding_window}")
    query_SHLD, key_SGLD, value_SGLD = (_as_sequences(x, tree) for x in (query, key, value))
    out_SHLD = _causal_attention(query_SHLD * scaling, key_SGLD, value_SGLD)
    out_NHD = out_SHLD.transpose(1, 2).flatten(0, 1)[tree.places_N]
    return out_NHD[None], None


def _causal_attention(query_SHLD: Tensor, key_SGLD: Tensor, value_SGLD: Tensor) -> Tensor:
    """Plain products: on a CPU, the backward pass of torch's fused attention takes ten times as long at this size."""
    num_sequences, num_heads, length, _ = query_SHLD.shape
    # The query heads that share a key head stand below one another, so that keys need no copies.
    query_SGMD = query_SHLD.reshape(num_sequences, key_SGLD.shape[1], -1, query_SHLD.shape[-1])
    scores_SGML = query_SGMD @ key_SGLD.transpose(-1, -2)
    hidden_LL = torch.ones(length, length, dtype=torch.bool, device=query_SHLD.device).triu(1)
    hidden_ML = hidden_LL.repeat(num_heads // key_SGLD.shape[1], 1)
    weights_SGML = torch.softmax(scores_SGML.masked_fill(hidden_ML, float("-inf")), dim=-1)
    return (weights_SGML @ value_SGLD).view(num_sequences, num_heads, length, -1)


def _as_sequences(x_1HND: Tensor, tree: TokenTree) -> Tensor:
    heads, _, width = x_1HND.shape[1:]
    x_NC = x_1HND[0].transpose(0, 1).reshape(-1, heads * width)
    x_SLC: Tensor = _Paths.apply(x_NC, tree.paths_SL)  # type: ignore[no-untyped-call]
    return x_SLC.view(*x_SLC.shape[:2], heads, width).transpose(1, 2)


AttentionInterface.register(ATTENTION_NAME, attend_along_paths)


@contextmanager
def attending_along_paths(network: Any) -> Iterator[None]:
    """Within, the network's attention expects a tree (`tree=` among the arguments of its forward pass)."""
    config = network.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = ATTENTION_NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def in_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Cut the indices of `lengths`, in order, into runs of at most `max_tokens` together (at least one index a run)."""
    runs: list[list[int]] = []
    filled = 0
    for index, length in enumerate(lengths):
        if not runs or filled + length > max_tokens:
            runs.append([])
            filled = 0
        runs[-1].append(index)
        filled += length
    return runs
