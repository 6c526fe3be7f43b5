"""Products that torch compiles: bf16 weights are read as they are and multiplied in fp32, for a few rows at a time.

On a processor without bf16 kernels torch either converts the whole weight first or reads twice the bytes. The compiler
(inductor, with the machine's own C++ compiler) fuses reading, widening and summing into one pass, and with them what a
decoder layer does before and after a product: a token's time is mostly the cost of starting operations. Each row is
computed by itself, so its bits don't depend on how many others there are (a test holds it). Knows no layers; called by
`precision` and `nn`.
Shapes: N rows, M rows of one call, I inputs, O outputs, C channels, W width of a gated layer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ROWS = (1, 2, 4, 8)  # of one call; what is missing is filled up with zeros

Step = Callable[..., Any]
logger = logging.getLogger(__name__)


@cache
def can_compile() -> bool:
    """Compile (seconds, once a machine): whether there is a C++ compiler, and what it made computes what it should."""
    try:
        right = all(_is_right(num_rows, *shape) for num_rows in ROWS for shape in ((96, 40), (33, 33)))
    except Exception as error:  # whatever the machine's compiler lacks: products are slower without, not wrong
        logger.warning("products can't be compiled (%s: %s); fp32 is served without", type(error).__name__, error)
        return False
    if not right:
        logger.warning("compiled products compute something else than products do; fp32 is served without")
    return right


def _is_right(num_rows: int, num_outputs: int, num_inputs: int) -> bool:
    """On whole numbers, whose sums are exact; what stands around the product to a few last bits."""
    with torch.inference_mode():
        x_MI = torch.arange(num_rows * num_inputs).remainder(7).float().view(num_rows, num_inputs)
        weight_OI = torch.arange(num_outputs * num_inputs).remainder(5).bfloat16().view(num_outputs, num_inputs)
        exact_MO = x_MI @ weight_OI.float().T
        if not torch.equal(few_rows_product(x_MI, weight_OI), exact_MO):
            return False
        both_M2I, eps = torch.stack((x_MI, x_MI), 1), torch.tensor(1e-5)
        found = (
            added_product(x_MI, exact_MO, weight_OI),
            *normed_product(x_MI, x_MI[0], eps, weight_OI),
            *gated_product(both_M2I, exact_MO, weight_OI),
        )
        normed_MI = functional.rms_norm(x_MI, (num_inputs,), x_MI[0], 1e-5)
        gated_MI = functional.silu(x_MI) * x_MI
        expected = (
            *(2 * exact_MO, normed_MI, normed_MI @ weight_OI.float().T),
            *(gated_MI, exact_MO + gated_MI @ weight_OI.float().T),
        )
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-3) for a, b in zip(found, expected, strict=True))


def few_rows_product(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """x W^T, [N, O] in fp32, with W in bf16."""
    return _in_parts("product", (x_NI,), (weight_OI,))[0]


def added_product(x_NI: Tensor, before_NO: Tensor, weight_OI: Tensor) -> Tensor:
    """before + x W^T, [N, O]."""
    return _in_parts("added", (x_NI, before_NO), (weight_OI,))[0]


def normed_product(x_NC: Tensor, norm_C: Tensor, eps: Tensor, weight_OC: Tensor) -> tuple[Tensor, Tensor]:
    """(h [N, C] = norm * x / sqrt(mean(x^2) + eps), h W^T [N, O]); `eps` has no dimension."""
    h_NC, y_NO = _in_parts("normed", (x_NC,), (norm_C, eps, weight_OC))
    return h_NC, y_NO


def gated_product(both_N2W: Tensor, before_NO: Tensor, weight_OW: Tensor) -> tuple[Tensor, Tensor]:
    """(a [N, W] = silu(first) * second, before + a W^T [N, O])."""
    a_NW, y_NO = _in_parts("gated", (both_N2W, before_NO), (weight_OW,))
    return a_NW, y_NO


def _in_parts(name: str, rows: tuple[Tensor, ...], fixed: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A step on rows, cut into calls of at most eight and filled up to the next number that was compiled."""
    num_rows = len(rows[0])
    if num_rows > ROWS[-1]:
        cut = zip(*(torch.split(part, ROWS[-1]) for part in rows), strict=True)
        found = [_in_parts(name, part, fixed) for part in cut]
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))
    filled = next(number for number in ROWS if number >= num_rows)
    if filled > num_rows:
        rows = tuple(torch.cat((part, part.new_zeros(filled - num_rows, *part.shape[1:]))) for part in rows)
    out = _compiled(name, filled)(*rows, *fixed)
    whole = (out,) if isinstance(out, Tensor) else tuple(out)
    return whole if filled == num_rows else tuple(part[:num_rows] for part in whole)


def _steps(num_rows: int) -> dict[str, tuple[Step, tuple[Tensor, ...]]]:
    """{name: (step, examples of what it takes)}. The sizes of the examples stand for any others, so that no two may be
    equal that needn't be; what a step's later part reads is returned, so that it is computed once and not at each use.
    """

    def sums(x_MI: Tensor, weight_OI: Tensor) -> Tensor:
        wide_OI = weight_OI.float()
        return torch.stack([(x_MI[row] * wide_OI).sum(-1) for row in range(num_rows)])

    def added(x_MI: Tensor, before_MO: Tensor, weight_OI: Tensor) -> Tensor:
        return before_MO + sums(x_MI, weight_OI)

    def normed(x_MC: Tensor, norm_C: Tensor, eps: Tensor, weight_OC: Tensor) -> tuple[Tensor, Tensor]:
        # Row by row, as products are: torch would cut a single row's sum among threads, and so give it other bits.
        squares_M = torch.stack([x_MC[row].square().sum(-1) for row in range(num_rows)])
        h_MC = x_MC * (squares_M[:, None] / x_MC.shape[1] + eps).rsqrt() * norm_C
        return h_MC, sums(h_MC, weight_OC)

    def gated(both_M2W: Tensor, before_MO: Tensor, weight_OW: Tensor) -> tuple[Tensor, Tensor]:
        a_MW = functional.silu(both_M2W[:, 0]) * both_M2W[:, 1]
        return a_MW, before_MO + sums(a_MW, weight_OW)

    x_MI, before_MO, weight_OI = torch.zeros(num_rows, 48), torch.zeros(num_rows, 64), torch.zeros(64, 48).bfloat16()
    return {
        "product": (sums, (x_MI, weight_OI)),
        "added": (added, (x_MI, before_MO, weight_OI)),
        "normed": (normed, (x_MI, torch.zeros(48), torch.zeros(()), weight_OI)),
        "gated": (gated, (torch.zeros(num_rows, 2, 48), before_MO, weight_OI)),
    }


@cache
def _compiled(name: str, num_rows: int) -> Step:
    """Compiled once for all shapes of weights; called without torch.compile's guards, which cost a product's time."""
    from torch._inductor import config, standalone_compile  # a second that processes without compiled products save
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.inference_mode():
        step, examples = _steps(num_rows)[name]
        step.__annotations__ = {}  # would be names in the graph that torch's cache has no key for
        graph = make_fx(step, tracing_mode="symbolic")(*examples)
        with config.patch({"cpp.dynamic_threads": True}):
            compiled: Step = standalone_compile(graph, list(examples), dynamic_shapes="from_graph")
    return compiled
