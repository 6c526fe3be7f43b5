"""Products that torch compiles: bf16 weights are read as they are and multiplied in fp32, for a few rows at a time.

On a processor without bf16 kernels torch either converts the whole weight first or reads twice the bytes. The compiler
(inductor, with the machine's own C++ compiler) fuses reading, widening and summing into one pass. Each row is summed by
itself, so its bits don't depend on how many others there are (a test holds it). Knows no layers; called by `precision`.
Shapes: N rows, M rows of one call, I inputs, O outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

ROWS = (1, 2, 4, 8)  # of one call; what is missing is filled up with zeros

Product = Callable[[Tensor, Tensor], Tensor]
logger = logging.getLogger(__name__)


@cache
def can_compile() -> bool:
    """Compile (seconds, once a process): whether there is a C++ compiler, and what it made computes what it should."""
    try:
        right = all(_is_right(num_rows, *shape) for num_rows in ROWS for shape in ((96, 40), (33, 33)))
    except Exception as error:  # whatever the machine's compiler lacks: products are slower without, not wrong
        logger.warning("products can't be compiled (%s: %s); fp32 is served without", type(error).__name__, error)
        return False
    if not right:
        logger.warning("compiled products compute something else than products do; fp32 is served without")
    return right


def _is_right(num_rows: int, num_outputs: int, num_inputs: int) -> bool:
    """On whole numbers, whose sums are exact."""
    with torch.inference_mode():
        x_MI = torch.arange(num_rows * num_inputs).remainder(7).float().view(num_rows, num_inputs)
        weight_OI = torch.arange(num_outputs * num_inputs).remainder(5).bfloat16().view(num_outputs, num_inputs)
        return torch.equal(few_rows_product(x_MI, weight_OI), x_MI @ weight_OI.float().T)


def few_rows_product(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """x W^T, [N, O] in fp32, with W in bf16."""
    num_rows = len(x_NI)
    if num_rows > ROWS[-1]:
        return torch.cat([few_rows_product(part_MI, weight_OI) for part_MI in torch.split(x_NI, ROWS[-1])])
    filled = next(rows for rows in ROWS if rows >= num_rows)
    if filled == num_rows:
        return _product(num_rows)(x_NI, weight_OI)
    x_MI = torch.cat((x_NI, x_NI.new_zeros(filled - num_rows, x_NI.shape[1])))
    return _product(filled)(x_MI, weight_OI)[:num_rows]


@cache
def _product(num_rows: int) -> Product:
    """Compiled once for all shapes of weights; called without torch.compile's guards, which cost as much as a product.

    The sizes that it is traced with stand for any others, so no two of them may be equal.
    """
    from torch._inductor import config, standalone_compile  # a second that processes without compiled products save
    from torch.fx.experimental.proxy_tensor import make_fx

    def product(x_MI: Tensor, weight_OI: Tensor) -> Tensor:
        wide_OI = weight_OI.float()
        return torch.stack([(x_MI[row] * wide_OI).sum(-1) for row in range(num_rows)])

    with torch.inference_mode():
        example = torch.zeros(num_rows, 48), torch.zeros(64, 48, dtype=torch.bfloat16)
        graph = make_fx(product, tracing_mode="symbolic")(*example)
        with config.patch({"cpp.dynamic_threads": True}):
            compiled: Product = standalone_compile(graph, list(example), dynamic_shapes="from_graph")
    return compiled
