"""Attention over packed tokens: rows of different lengths with keys in slots, and whole sequences without any cache.

`attend_by_plan` is what transformers' attention modules call (registered as `tenure_rows`); the plan decides.
Tensors: N packed tokens, H query heads, G key/value heads, D head width, L keys, S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from tenure.model.cache import Slots
from tenure.model.nn.plan import Plan

ATTENTION_NAME = "tenure_rows"
KEYS_ROUNDED_TO = 64


def attend_by_plan(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: Plan,
    scaling: float,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: [1, H, N, D] queries to ([1, N, H, D], no weights)."""
    layer: Any = module.layer_idx
    query_NHD, key_NGD, value_NGD = (part[0].transpose(0, 1) for part in (query, key, value))
    return plan.attention.attend(layer, query_NHD, key_NGD, value_NGD, scaling, sliding_window)[None], None


AttentionInterface.register(ATTENTION_NAME, attend_by_plan)


def visible(query_Q: Tensor, key_L: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """Additive mask [..., Q, L]: 0 where the key's position is at or before the query's and within the window."""
    seen = key_L <= query_Q[..., None]
    if window is not None:
        seen &= key_L > query_Q[..., None] - window
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))


def sequence_attention(
    query_QHD: Tensor, key_LGD: Tensor, value_LGD: Tensor, mask_QL: Tensor | None, scaling: float
) -> Tensor:
    """One sequence's attention [Q, H, D]; without a mask it is causal over queries and keys alike."""
    out_1HQD = functional.scaled_dot_product_attention(
        query_QHD.transpose(0, 1)[None],
        key_LGD.transpose(0, 1)[None],
        value_LGD.transpose(0, 1)[None],
        attn_mask=mask_QL,
        is_causal=mask_QL is None,
        scale=scaling,
        enable_gqa=True,
    )
    return out_1HQD[0].transpose(0, 1)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive packed tokens [offset, offset + count) of one row, from position `start` on, kept in `slot`."""

    slot: int
    start: int
    count: int
    offset: int


@dataclass(slots=True)
class SlotAttention:
    """Rows whose keys and values live in slots: first the decoding rows (one token each), then prefill chunks.

    The decoding rows are one attention call, each chunk is one more. A row's result doesn't depend on the others.
    """

    slots: Slots
    decoding: Sequence[Chunk]
    chunks: Sequence[Chunk]
    _places_N: Tensor = field(init=False)
    _rows: slice | Tensor = field(init=False)
    _num_keys: int = field(init=False)
    _masks: dict[tuple[int, int | None], Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        places = [
            c.slot * self.slots.length + c.start + i for c in (*self.decoding, *self.chunks) for i in range(c.count)
        ]
        self._places_N = torch.tensor(places)
        rows = [c.slot for c in self.decoding]
        dense = rows == list(range(rows[0], rows[0] + len(rows))) if rows else True
        self._rows = slice(rows[0], rows[-1] + 1) if rows and dense else torch.tensor(rows, dtype=torch.long)
        longest = max((c.start + 1 for c in self.decoding), default=0)
        self._num_keys = min(-(-longest // KEYS_ROUNDED_TO) * KEYS_ROUNDED_TO, self.slots.length)

    def attend(
        self, layer: int, query_NHD: Tensor, key_NGD: Tensor, value_NGD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Write the new keys and values to their slots, then attend row by row."""
        keys, values = self.slots.keys[layer], self.slots.values[layer]
        keys.view(-1, *keys.shape[2:]).index_copy_(0, self._places_N, key_NGD)
        values.view(-1, *values.shape[2:]).index_copy_(0, self._places_N, value_NGD)
        parts = []
        if self.decoding:
            parts.append(self._attend_decoding(query_NHD, keys, values, scaling, window))
        for i, chunk in enumerate(self.chunks):
            mask = self._chunk_mask(i, chunk, window, query_NHD.dtype)
            end = chunk.start + chunk.count
            parts.append(
                sequence_attention(
                    query_NHD[chunk.offset : chunk.offset + chunk.count],
                    keys[chunk.slot, :end],
                    values[chunk.slot, :end],
                    mask,
                    scaling,
                )
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend_decoding(
        self, query_NHD: Tensor, keys: Tensor, values: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        num_rows = len(self.decoding)
        mask = self._masks.get((-1, window))
        if mask is None:
            at = torch.tensor([[c.start] for c in self.decoding])
            mask = visible(at, torch.arange(self._num_keys), window, query_NHD.dtype)[:, None]
            self._masks[-1, window] = mask
        # The query heads that share keys stand as several queries of one head: several times faster than one by one.
        out = functional.scaled_dot_product_attention(
            query_NHD[:num_rows].view(num_rows, keys.shape[2], -1, keys.shape[3]),
            keys[self._rows, : self._num_keys].transpose(1, 2),
            values[self._rows, : self._num_keys].transpose(1, 2),
            attn_mask=mask,
            scale=scaling,
        )
        return out.flatten(1, 2)

    def _chunk_mask(self, index: int, chunk: Chunk, window: int | None, dtype: torch.dtype) -> Tensor | None:
        end = chunk.start + chunk.count
        if chunk.start == 0 and (window is None or end <= window):
            return None
        mask = self._masks.get((index, window))
        if mask is None:
            mask = visible(torch.arange(chunk.start, end), torch.arange(end), window, dtype)
            self._masks[index, window] = mask
        return mask


@dataclass(frozen=True, slots=True)
class Tree:
    """A prompt and several continuations of it in one sequence: `lengths` = (prompt, continuation, ...)."""

    lengths: tuple[int, ...]

    @property
    def count(self) -> int:
        """Tokens in the sequence."""
        return sum(self.lengths)

    def positions(self) -> list[int]:
        """Every continuation goes on where the prompt ended."""
        prompt, *rest = self.lengths
        return [*range(prompt), *(prompt + i for length in rest for i in range(length))]

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Additive [count, count]: a token sees the prompt and its own continuation, up to itself."""
        order = torch.arange(self.count)
        branch = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))
        position = torch.tensor(self.positions())
        seen = (order <= order[:, None]) & ((branch == branch[:, None]) | (branch == 0))
        if window is not None:
            seen &= position > position[:, None] - window
        return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))


@dataclass(slots=True)
class TreeAttention:
    """Whole sequences one after another, each seeing only itself; nothing is kept."""

    trees: Sequence[Tree]
    _masks: dict[tuple[int, int | None], Tensor] = field(init=False, default_factory=dict)

    def attend(
        self, layer: int, query_NHD: Tensor, key_NGD: Tensor, value_NGD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Attend tree by tree."""
        parts, start = [], 0
        for i, tree in enumerate(self.trees):
            own = slice(start, start + tree.count)
            mask = self._mask(i, tree, window, query_NHD.dtype)
            parts.append(sequence_attention(query_NHD[own], key_NGD[own], value_NGD[own], mask, scaling))
            start += tree.count
        return torch.cat(parts)

    def _mask(self, index: int, tree: Tree, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if len(tree.lengths) == 1 and (window is None or tree.count <= window):
            return None
        mask = self._masks.get((index, window))
        if mask is None:
            mask = self._masks[index, window] = tree.mask(window, dtype)
        return mask
