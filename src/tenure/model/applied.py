"""Weight deltas on a network: merged while a context lasts, and gone without a trace after it.

The night's way to run a version with deltas; the engine serves the same numbers from weight sets of its own. Knows no
versions or digests of artefacts; called by learners, checks and benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from tenure.errors import ModelError
from tenure.model.attachments import with_deltas
from tenure.model.language_model import parameter_digest


def merged_parameters(network: nn.Module, deltas: Sequence[tuple[Path, float]]) -> dict[str, Tensor]:
    """The parameters that (directory, scale) deltas change, with all of them merged in, by parameter name.

    See `with_deltas`. The network is left as it is.
    """
    return {f"{name}.weight": total for name, total in with_deltas(_linear_weights(network), deltas).items()}


def _linear_weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights of the linear layers that are nobody else's: a change of a tied head would change the embedding too."""
    users: dict[int, int] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            users[id(parameter)] = users.get(id(parameter), 0) + 1
    return {
        name: module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and users[id(module.weight)] == 1
    }


@contextmanager
def applied(network: nn.Module, deltas: Sequence[tuple[Path, float]]) -> Iterator[nn.Module]:
    """Within, `network` computes with the deltas merged in; leaving restores its parameters bit by bit.

    Digests of all parameters are compared on leaving. Raises BrokenModel as `merged_parameters` does, and ModelError
    when somebody changed parameters meanwhile (those that the deltas touched are restored all the same).
    """
    before = parameter_digest(network)
    merged = merged_parameters(network, deltas)
    kept = {name: network.get_parameter(name).detach().clone() for name in merged}
    _write(network, merged)
    within = parameter_digest(network)
    try:
        yield network
    finally:
        changed = parameter_digest(network) != within
        _write(network, kept)
        if parameter_digest(network) != before:
            raise ModelError(
                "parameters that no delta touches were changed while deltas were applied, so the network is no longer "
                "the one it was; load it again, and change parameters in a copy"
            )
        if changed:
            raise ModelError(
                "merged parameters were changed while deltas were applied; the network is restored, but what ran "
                "within did not run on the version that it names"
            )


def _write(network: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            network.get_parameter(name).copy_(value)
