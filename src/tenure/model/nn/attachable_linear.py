"""A linear layer that serves many: one product for all rows, then the low-rank terms of the rows that have adapters.

Stands in a served network in place of `nn.Linear`; knows only the plan on its desk.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from tenure.model.nn.plan import Desk


class AttachableLinear(nn.Module):
    """y = x W^T + b with W from the plan's weight set, plus the plan's row-wise low-rank terms.

    Shares its parameters with the `nn.Linear` that it replaces. `name` is the module's path in the network.
    """

    def __init__(self, name: str, linear: nn.Linear, desk: Desk) -> None:
        super().__init__()
        self.name = name
        self.weight = linear.weight
        self.bias = linear.bias
        self.desk = desk
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        plan = self.desk.plan
        assert plan is not None, "a served network runs only under a plan"
        y = functional.linear(x, plan.weights.get(self.name, self.weight), self.bias)
        if plan.terms is None:
            return y
        return plan.terms.add(self.name, x.reshape(-1, self.in_features), y.reshape(-1, self.out_features)).view_as(y)
