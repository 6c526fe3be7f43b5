"""What one forward call has to know beside its tokens: who attends to what, which weights, whose low-rank terms.

Tensors: N packed tokens of one forward call (all rows and chunks one after another), R ranks of all adapters in use,
I inputs, O outputs, H query heads, G key/value heads, D head width. Knows neither requests nor networks; made by the
batch and by scoring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tenure.model.precision import Weight


class Attention(Protocol):
    """How the packed tokens of one call attend."""

    def attend(
        self, layer: int, query_NHD: Tensor, key_NGD: Tensor, value_NGD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Attention output [N, H, D]."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """One of the model's linear layers as a part of a served one: its module path and its rows of the output."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class LowRank:
    """One adapter's factors by module path: A [rank, in] and B [out, rank], PEFT's scaling already in B."""

    digest: str
    factors: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def num_bytes(self) -> int:
        """Memory of all factors."""
        return sum(t.numel() * t.element_size() for pair in self.factors.values() for t in pair)


@dataclass(frozen=True, slots=True)
class Stacked:
    """Factors of several adapters side by side for one served layer: A [R, I], B [O, R].

    `owners` says whose the ranks are: (index of the adapter, how many), in order. B is zero where a part of the layer
    has nothing to do with a rank.
    """

    a_RI: Tensor
    b_OR: Tensor
    owners: tuple[tuple[int, int], ...]


def stack_adapters(adapters: Sequence[LowRank], layers: Mapping[str, Sequence[Part]]) -> dict[str, Stacked]:
    """Lay the adapters' factors side by side, served layer by served layer."""
    stacks = {}
    for key, parts in layers.items():
        present = [
            (i, part, adapter.factors[part.name])
            for part in parts
            for i, adapter in enumerate(adapters)
            if part.name in adapter.factors
        ]
        if not present:
            continue
        a_RI = torch.cat([a for _, _, (a, _) in present])
        b_OR = a_RI.new_zeros(parts[-1].end, len(a_RI))
        rank = 0
        for _, part, (a, b) in present:
            b_OR[part.start : part.end, rank : rank + len(a)] = b
            rank += len(a)
        stacks[key] = Stacked(a_RI, b_OR, tuple((i, len(a)) for i, _, (a, _) in present))
    return stacks


@dataclass(slots=True)
class RowTerms:
    """The low-rank terms of the rows that have adapters.

    All adapters' A are one product, whose columns are then scaled token by token: by the use's scale where the token's
    row has that adapter, by zero elsewhere. So any mixture of adapters costs two small products a layer.
    `scales_NE` [N tokens, E adapters].
    """

    stacks: Mapping[str, Stacked]
    scales_NE: Tensor
    _gates: dict[tuple[tuple[int, int], ...], Tensor] = field(default_factory=dict)

    def add(self, key: str, x_NI: Tensor, y_NO: Tensor) -> Tensor:
        """y + sum over adapters of scale * (x A^T) B^T; y itself where no adapter touches the layer."""
        stack = self.stacks.get(key)
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
    """One forward call. `weights` replaces the base's by served layer (a weight set); empty is the base.

    `replying`: the packed tokens continue replies, all of them.
    """

    attention: Attention
    weights: Mapping[str, Weight] = field(default_factory=dict)
    terms: RowTerms | None = None
    replying: bool = False
    _rotations: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def rotation(self, cos_1ND: Tensor, sin_1ND: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [N, 1, D], made once for all layers: x * cos + roll(x, D/2) * sin rotates x."""
        found = self._rotations.get(id(cos_1ND))
        if found is None:
            sin_N1D = sin_1ND[0][:, None].clone()
            sin_N1D[..., : sin_N1D.shape[-1] // 2].neg_()
            found = self._rotations[id(cos_1ND)] = (cos_1ND[0][:, None], sin_N1D)
        return found


@dataclass(slots=True)
class Desk:
    """Where the plan of the running forward call lies; one desk a served network, shared by its modules."""

    plan: Plan | None = None


class ServedModule(nn.Module):
    """A module that nobody puts hooks on: a call is its `forward`, at once.

    torch's way through its hooks costs more than a microsecond a call, which is a tenth of a token's time.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What `forward` returns."""
        return self.forward(*args, **kwargs)
