"""Attention over packed tokens: rows of different lengths with keys in slots, and whole sequences without any cache.

`attend_by_plan` is what transformers' attention modules call (registered as `tenure_rows`); the plan decides.
Prompts are attended in blocks of `BLOCK_TOKENS` from their start, always: the kernel's rounding depends on how many
queries it gets, so this makes a prompt's keys the same bits whether it is read whole, in chunks, or after a reused
prefix.
Tensors: N packed tokens, Q queries of a block, L keys, H query heads, G key/value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from tenure.model.cache import BLOCK_TOKENS, Slots
from tenure.model.nn.plan import Plan

ATTENTION_NAME = "tenure_rows"
KEYS_ROUNDED_TO = 32


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


def block_attention(
    query_QHD: Tensor, key_LGD: Tensor, value_LGD: Tensor, mask_QL: Tensor | None, scaling: float
) -> Tensor:
    """Attention of up to `BLOCK_TOKENS` queries of one sequence, [Q, H, D]; causal from the start without a mask."""
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
    _masks: dict[tuple[int, int, int | None], Tensor] = field(init=False, default_factory=dict)

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
        for chunk in self.chunks:
            for start in range(0, chunk.count, BLOCK_TOKENS):
                end = min(start + BLOCK_TOKENS, chunk.count)
                first, last = chunk.start + start, chunk.start + end
                mask = self._block_mask(first, last, window, query_NHD.dtype)
                query = query_NHD[chunk.offset + start : chunk.offset + end]
                parts.append(block_attention(query, keys[chunk.slot, :last], values[chunk.slot, :last], mask, scaling))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend_decoding(
        self, query_NHD: Tensor, keys: Tensor, values: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        num_rows = len(self.decoding)
        mask = self._masks.get((-1, -1, window))
        if mask is None:
            at = torch.tensor([[c.start] for c in self.decoding])
            mask = visible(at, torch.arange(self._num_keys), window, query_NHD.dtype)[:, None]
            self._masks[-1, -1, window] = mask
        # The query heads that share keys stand as several queries of one head: several times faster than one by one.
        out = functional.scaled_dot_product_attention(
            query_NHD[:num_rows].view(num_rows, keys.shape[2], -1, keys.shape[3]),
            keys[self._rows, : self._num_keys].transpose(1, 2),
            values[self._rows, : self._num_keys].transpose(1, 2),
            attn_mask=mask,
            scale=scaling,
        )
        return out.flatten(1, 2)

    def _block_mask(self, first: int, last: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if first == 0 and (window is None or last <= window):
            return None
        mask = self._masks.get((first, last, window))
        if mask is None:
            mask = visible(torch.arange(first, last), torch.arange(last), window, dtype)
            self._masks[first, last, window] = mask
        return mask


@dataclass(frozen=True, slots=True)
class Tree:
    """A beginning and several continuations of it, one after another: `lengths` = (beginning, continuation, ...)."""

    lengths: tuple[int, ...]

    @property
    def count(self) -> int:
        """Tokens in all."""
        return sum(self.lengths)

    def positions(self) -> list[int]:
        """Every continuation goes on where the beginning ended."""
        first, *rest = self.lengths
        return [*range(first), *(first + i for length in rest for i in range(length))]

    def mask(self, num_before: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """Additive [count, num_before + count]: a token sees what is before, the beginning, its own continuation."""
        order = torch.arange(self.count)
        branch = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))
        own = (order <= order[:, None]) & ((branch == branch[:, None]) | (branch == 0))
        seen = torch.cat([torch.ones(self.count, num_before, dtype=torch.bool), own], dim=1)
        if window is not None:
            position = torch.tensor([*range(num_before), *(num_before + p for p in self.positions())])
            seen &= position > position[num_before:, None] - window
        return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))


@dataclass(frozen=True, slots=True)
class Span:
    """Packed tokens [place, place + tree.count) that come after those of the `before` ranges of the same call."""

    place: int
    tree: Tree
    before: tuple[tuple[int, int], ...] = ()

    @property
    def num_before(self) -> int:
        """Tokens that all of this span sees."""
        return sum(end - start for start, end in self.before)


@dataclass(slots=True)
class SpanAttention:
    """Sequences cut into spans, in the order of their places; what sequences share at the front is there once.

    Nothing is kept. A span's result depends on its own tokens and those before it, not on what else is in the call.
    """

    spans: Sequence[Span]
    _masks: dict[tuple[tuple[int, ...], int, int | None], Tensor] = field(init=False, default_factory=dict)

    def attend(
        self, layer: int, query_NHD: Tensor, key_NGD: Tensor, value_NGD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Attend span by span."""
        parts = []
        for span in self.spans:
            own = slice(span.place, span.place + span.tree.count)
            mask = self._mask(span, window, query_NHD.dtype)
            key, value = (_joined(x, span, own) for x in (key_NGD, value_NGD))
            parts.append(block_attention(query_NHD[own], key, value, mask, scaling))
        return torch.cat(parts)

    def _mask(self, span: Span, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if not span.before and len(span.tree.lengths) == 1 and (window is None or span.tree.count <= window):
            return None
        key = (span.tree.lengths, span.num_before, window)
        mask = self._masks.get(key)
        if mask is None:
            mask = self._masks[key] = span.tree.mask(span.num_before, window, dtype)
        return mask


def _joined(x_NGD: Tensor, span: Span, own: slice) -> Tensor:
    """The span's own rows after those before it; no copy where they lie side by side already."""
    if not span.before:
        return x_NGD[own]
    if len(span.before) == 1 and span.before[0][1] == own.start:
        return x_NGD[span.before[0][0] : own.stop]
    return torch.cat([*(x_NGD[start:end] for start, end in span.before), x_NGD[own]])
