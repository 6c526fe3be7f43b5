"""Weights in the form that one product computes with: plain, packed for oneDNN, read as bf16, or 8-bit integers.

The choice is the model's `precision`; what is measured behind it is in docs/engine.md. Knows no layers; called by the
served network when it is built and when weight deltas are merged.
Shapes: N rows, I inputs, O outputs. Rows that continue a reply are multiplied apart from those of prompts where that
makes a difference; a row's kind decides how it is multiplied, never its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tenure.model.compiled import can_compile, few_rows_product

LEAST_NARROW = 2**17  # values: a smaller weight stays in the processor's caches, whatever its form
INT8_MAX = 127
# torch's int8 kernel reads half the bytes but computes slowly: beyond so many rows the packed bf16 product wins.
INT8_ROWS = 4
# oneDNN sums a single row with many inputs in another order than the same row among others (seen from 1,536 on, not at
# 576). Two rows cost hardly more, and keep a row's result independent of its neighbours.
ONE_ROW_INPUTS = 1024

# Looked up once: a decoding step calls it a hundred times.
_packed_linear: Any = torch.ops.mkldnn._linear_pointwise.default if torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]


class Weight(Protocol):
    """A weight [O, I] that can be multiplied with."""

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        ...

    @property
    def num_bytes_read(self) -> int:
        """What a step in which one reply goes on reads of it."""
        ...

    def product(self, x_NI: Tensor, bias_O: Tensor | None, *, replying: bool = False) -> Tensor:
        """x W^T + b, [N, O]; the rows continue replies, or are of prompts."""
        ...


@dataclass(frozen=True, slots=True)
class PlainWeight:
    """The tensor itself; shares memory with the parameter that it was made from."""

    weight_OI: Tensor

    @property
    def num_bytes(self) -> int:
        return self.weight_OI.nbytes

    @property
    def num_bytes_read(self) -> int:
        return self.num_bytes

    def product(self, x_NI: Tensor, bias_O: Tensor | None, *, replying: bool = False) -> Tensor:
        return functional.linear(x_NI, self.weight_OI, bias_O)


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """Laid out once as oneDNN's kernels read it, instead of at each call; in bf16 the same numbers come out.

    In fp32, which plain torch leaves to another library, few rows are multiplied up to twice as fast.
    """

    packed: Tensor
    num_bytes: int

    @property
    def num_bytes_read(self) -> int:
        return self.num_bytes

    def product(self, x_NI: Tensor, bias_O: Tensor | None, *, replying: bool = False) -> Tensor:
        if x_NI.shape[0] == 1 and x_NI.shape[1] > ONE_ROW_INPUTS:
            return self.product(torch.cat((x_NI, x_NI)), bias_O)[:1]
        y_NO: Tensor = _packed_linear(x_NI, self.packed, bias_O, "none", [], "")
        return y_NO


@dataclass(frozen=True, slots=True)
class NarrowWeight:
    """fp32 values that bf16 holds exactly: replying rows read them as bf16 and compute in fp32 (`compiled`).

    A few rows wait for the weight, and so wait half as long. Prompts, which compute more than they read, use `wide`.
    """

    weight_OI: Tensor
    wide: Weight

    @property
    def num_bytes(self) -> int:
        return self.num_bytes_read + self.wide.num_bytes

    @property
    def num_bytes_read(self) -> int:
        return self.weight_OI.nbytes

    def product(self, x_NI: Tensor, bias_O: Tensor | None, *, replying: bool = False) -> Tensor:
        if not replying:
            return self.wide.product(x_NI, bias_O)
        y_NO = few_rows_product(x_NI, self.weight_OI)
        return y_NO if bias_O is None else y_NO + bias_O


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """Symmetric 8-bit integers with one scale an output; activations stay bf16 (weight-only).

    Few rows use torch's int8 kernel. Many rows use `integers`, the same integers as packed bf16 (they fit exactly),
    whose products are scaled afterwards.
    """

    weight_OI: Tensor
    scale_O: Tensor
    integers: Weight

    @property
    def num_bytes(self) -> int:
        return self.num_bytes_read + self.integers.num_bytes

    @property
    def num_bytes_read(self) -> int:
        return self.weight_OI.nbytes + self.scale_O.nbytes

    def product(self, x_NI: Tensor, bias_O: Tensor | None, *, replying: bool = False) -> Tensor:
        if x_NI.shape[0] <= INT8_ROWS:
            y_NO = torch._weight_int8pack_mm(x_NI, self.weight_OI, self.scale_O)
        else:
            y_NO = self.integers.product(x_NI, None).mul_(self.scale_O)
        return y_NO if bias_O is None else y_NO + bias_O


Packing = Callable[[Tensor], Weight]


def plain(weight_OI: Tensor) -> Weight:
    """As it is."""
    return PlainWeight(weight_OI)


def packed(weight_OI: Tensor, dtype: torch.dtype) -> Weight:
    """Round to `dtype` (fp32 or bf16) and lay out for oneDNN."""
    with torch.inference_mode(False), torch.no_grad():
        rounded_OI = weight_OI.detach().to(dtype).contiguous()
        laid_out = torch.ops.mkldnn._reorder_linear_weight(rounded_OI, INT8_ROWS)
    return PackedWeight(laid_out, rounded_OI.nbytes)


def narrow(weight_OI: Tensor) -> Weight:
    """Read as bf16 by replying rows if that loses nothing and the weight is worth it, else laid out as fp32 alone."""
    wide = _laid_out(weight_OI, torch.float32)
    if weight_OI.numel() < LEAST_NARROW or not can_compile():
        return wide
    with torch.inference_mode(False), torch.no_grad():
        narrow_OI = weight_OI.detach().to(torch.bfloat16).contiguous()
        return NarrowWeight(narrow_OI, wide) if torch.equal(narrow_OI.float(), weight_OI) else wide


def int8(weight_OI: Tensor) -> Weight:
    """Round to 8-bit integers, one scale an output."""
    w_OI = weight_OI.detach().float()
    scale_O = (w_OI.abs().amax(dim=1) / INT8_MAX).clamp_min(torch.finfo(torch.float32).tiny).to(torch.bfloat16)
    integers_OI = (w_OI / scale_O.float()[:, None]).round().clamp_(-INT8_MAX, INT8_MAX)
    return Int8Weight(integers_OI.to(torch.int8).contiguous(), scale_O, _laid_out(integers_OI, torch.bfloat16))


def _laid_out(weight_OI: Tensor, dtype: torch.dtype) -> Weight:
    packs = packs_bf16() if dtype == torch.bfloat16 else dtype == torch.float32 and _has_onednn()
    return packed(weight_OI, dtype) if packs else PlainWeight(weight_OI.to(dtype))


def _has_onednn() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available


def packs_bf16() -> bool:
    """Whether this processor and torch build have oneDNN's bf16 kernels."""
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packing_of(precision: str, dtype: torch.dtype, *, compiled: bool = True) -> Packing:
    """How the weights of a model of this precision are kept; `dtype` is that of its loaded parameters.

    `compiled`: whether products may be compiled, where that is possible and worth it.
    """
    if precision == "int8":
        return int8
    if dtype == torch.float32 and compiled:
        return narrow
    return lambda weight_OI: _laid_out(weight_OI, dtype)
