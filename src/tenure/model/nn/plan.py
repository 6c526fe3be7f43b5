"""What one forward call has to know beside its tokens: who attends to what, which weights, whose low-rank terms.

Tensors: N packed tokens of one forward call (all rows and chunks one after another), R ranks of all adapters in use,
H query heads, G key/value heads, D head width. Knows neither requests nor networks; made by the batch and by scoring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Attention(Protocol):
    """How the packed tokens of one call attend."""

    def attend(
        self, layer: int, query_1HND: Tensor, key_1GND: Tensor, value_1GND: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Attention output [1, N, H, D]."""
        ...


@dataclass(frozen=True, slots=True)
class LowRank:
    """One adapter's factors by module name: A [rank, in] and B [out, rank], PEFT's scaling already in B."""

    digest: str
    factors: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def num_bytes(self) -> int:
        """Memory of all factors."""
        return sum(t.numel() * t.element_size() for pair in self.factors.values() for t in pair)


@dataclass(frozen=True, slots=True)
class Stacked:
    """Factors of several adapters side by side for one module: A [R, in], B [out, R]; `owners` (adapter, rank)."""

    a_RI: Tensor
    b_OR: Tensor
    owners: tuple[tuple[int, int], ...]


def stack_adapters(adapters: Sequence[LowRank]) -> dict[str, Stacked]:
    """Lay the adapters' factors side by side, module by module."""
    names = dict.fromkeys(name for adapter in adapters for name in adapter.factors)
    stacks = {}
    for name in names:
        present = [(i, adapter.factors[name]) for i, adapter in enumerate(adapters) if name in adapter.factors]
        stacks[name] = Stacked(
            a_RI=torch.cat([a for _, (a, _) in present]),
            b_OR=torch.cat([b for _, (_, b) in present], dim=1).contiguous(),
            owners=tuple((i, a.shape[0]) for i, (a, _) in present),
        )
    return stacks


@dataclass(slots=True)
class RowTerms:
    """The low-rank terms of the rows that have adapters.

    All adapters' A are one product, whose columns are then scaled token by token: by the use's scale where the token's
    row has that adapter, by zero elsewhere. So any mixture of adapters costs two small products a module.
    `scales_NE` [N tokens, E adapters].
    """

    stacks: Mapping[str, Stacked]
    scales_NE: Tensor
    _gates: dict[tuple[tuple[int, int], ...], Tensor] = field(default_factory=dict)

    def add(self, name: str, x_NI: Tensor, y_NO: Tensor) -> Tensor:
        """y + sum over adapters of scale * (x A^T) B^T; y itself where no adapter touches `name`."""
        stack = self.stacks.get(name)
        if stack is None:
            return y_NO
        gate_NR = self._gates.get(stack.owners)
        if gate_NR is None:
            columns = [self.scales_NE[:, i : i + 1].expand(-1, rank) for i, rank in stack.owners]
            gate_NR = self._gates[stack.owners] = torch.cat(columns, dim=1)
        low_NR = functional.linear(x_NI, stack.a_RI).mul_(gate_NR)
        return y_NO + functional.linear(low_NR, stack.b_OR)

    def rows(self, index_n: Tensor) -> RowTerms:
        """The same terms for a selection of the tokens."""
        return RowTerms(self.stacks, self.scales_NE[index_n])


@dataclass(slots=True)
class Plan:
    """One forward call. `weights` replaces parameters by module name (a weight set); empty is the base."""

    attention: Attention
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    terms: RowTerms | None = None


@dataclass(slots=True)
class Desk:
    """Where the plan of the running forward call lies; one desk a served network, shared by its modules."""

    plan: Plan | None = None
