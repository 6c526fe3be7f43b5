"""A linear layer that serves many: one product for all rows, then the low-rank terms of the rows that have adapters.

Stands in a served network in place of one `nn.Linear`, or of several that read the same input; knows only the plan on
its desk.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tenure.model.nn.plan import Desk, Part, Plan, ServedModule
from tenure.model.precision import NarrowWeight, Packing, Weight


class AttachableLinear(ServedModule):
    """y = x W^T + b with W from the plan's weight set, plus the plan's row-wise low-rank terms.

    `linears` maps module paths to the layers that it stands for; several are laid one under another and make one
    product. `key` names it in plans. The loaded parameters stay as they are beside the packed weight.
    """

    def __init__(self, linears: Mapping[str, nn.Linear], desk: Desk, packing: Packing) -> None:
        super().__init__()
        first = next(iter(linears.values()))
        self.in_features = first.in_features
        self.out_features = sum(linear.out_features for linear in linears.values())
        self.key = "+".join(linears)
        self.parts: tuple[Part, ...] = ()
        for name, linear in linears.items():
            start = self.parts[-1].end if self.parts else 0
            self.parts += (Part(name, start, start + linear.out_features),)
        self.originals: dict[str, Tensor] = {name: linear.weight for name, linear in linears.items()}
        biases: list[Tensor] = [linear.bias for linear in linears.values() if linear.bias is not None]
        assert len(biases) in (0, len(linears)), "layers with and without bias can't be one"
        self._bias = torch.cat(biases).detach() if biases else None
        self._weight = packing(first.weight if len(linears) == 1 else torch.cat(list(self.originals.values())))
        self._desk = desk

    @property
    def is_narrow(self) -> bool:
        """Whether replies read the base weight as bf16 and compute in fp32."""
        return isinstance(self._weight, NarrowWeight)

    @property
    def num_bytes_read(self) -> int:
        """What a step in which one reply goes on reads of the base weight."""
        return self._weight.num_bytes_read

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        plan = self._desk.plan
        assert plan is not None, "a served network runs only under a plan"
        x_NI = x.reshape(-1, self.in_features)
        y_NO = self._weight_of(plan).product(x_NI, self._bias, replying=plan.replying)
        if plan.terms is not None:
            y_NO = plan.terms.add(self.key, x_NI, y_NO)
        return y_NO.view(*x.shape[:-1], self.out_features)

    def narrow(self, plan: Plan) -> Tensor | None:
        """The weight [O, I] that replies of this plan read as bf16; None where they read another."""
        weight = self._weight_of(plan)
        return weight.weight_OI if isinstance(weight, NarrowWeight) else None

    def finished(self, x_NI: Tensor, y_NO: Tensor, plan: Plan) -> Tensor:
        """A product of x that was computed elsewhere, with bias and low-rank terms."""
        if self._bias is not None:
            y_NO = y_NO + self._bias
        return y_NO if plan.terms is None else plan.terms.add(self.key, x_NI, y_NO)

    def _weight_of(self, plan: Plan) -> Weight:
        return plan.weights.get(self.key, self._weight) if plan.weights else self._weight
