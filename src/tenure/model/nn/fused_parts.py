"""Parts of transformers' decoder layers in fewer operations: the same arithmetic, bit for bit, sooner started.

A token's time on a processor is mostly the cost of starting operations (docs/engine.md has the numbers), so projections
that read the same input are one product. Whatever isn't listed in `fuse_parts` stays transformers' own.
Tensors: N packed tokens, H query heads, G key/value heads, D head width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tenure.model.nn.attachable_linear import AttachableLinear
from tenure.model.nn.plan import Plan, ServedModule

Attach = Callable[[Mapping[str, nn.Linear]], AttachableLinear]


class FusedMlp(ServedModule):
    """down(act(gate(x)) * up(x)) with gate and up as one product."""

    def __init__(self, name: str, mlp: Any, attach: Attach) -> None:
        super().__init__()
        self.gate_up = attach({f"{name}.gate_proj": mlp.gate_proj, f"{name}.up_proj": mlp.up_proj})
        self.down = attach({f"{name}.down_proj": mlp.down_proj})
        self.act_fn = mlp.act_fn
        self._width = mlp.gate_proj.out_features

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        both = self.gate_up(x)
        hidden: Tensor = self.act_fn(both[..., : self._width]).mul_(both[..., self._width :])
        out: Tensor = self.down(hidden)
        return out


class FusedAttention(ServedModule):
    """Rotary attention with query, key and value as one product, and queries and keys rotated together."""

    def __init__(self, name: str, attention: Any, attach: Attach) -> None:
        super().__init__()
        projections = ("q_proj", "k_proj", "v_proj")
        self.qkv = attach({f"{name}.{p}": getattr(attention, p) for p in projections})
        self.out = attach({f"{name}.o_proj": attention.o_proj})
        self.layer_idx: int = attention.layer_idx
        self.scaling: float = attention.scaling
        # Mistral's window stands in its configuration; Qwen's differs from layer to layer.
        of_all = getattr(attention.config, "sliding_window", None)
        self.sliding_window: int | None = getattr(attention, "sliding_window", of_all)
        self._head_dim: int = attention.head_dim
        self._num_queries = attention.q_proj.out_features // self._head_dim
        self._num_rotated = self._num_queries + attention.k_proj.out_features // self._head_dim

    def forward(
        self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], plan: Plan, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """[1, N, C] to ([1, N, C], no weights), as transformers' attention modules."""
        qkv_N3D = self.qkv(hidden_states[0]).view(hidden_states.shape[1], -1, self._head_dim)
        cos_N1D, sin_N1D = plan.rotation(*position_embeddings)
        turning = qkv_N3D[:, : self._num_rotated]
        turned = (turning * cos_N1D).add_(turning.roll(self._head_dim // 2, -1).mul_(sin_N1D))
        out_NHD = plan.attention.attend(
            self.layer_idx,
            turned[:, : self._num_queries],
            turned[:, self._num_queries :],
            qkv_N3D[:, self._num_rotated :],
            self.scaling,
            self.sliding_window,
        )
        return self.out(out_NHD.flatten(1)[None]), None


class FusedRmsNorm(ServedModule):
    """x / sqrt(mean(x^2) + eps) in float32, rounded, times the weight."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight: Tensor = norm.weight
        self._eps: float = norm.variance_epsilon

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        wide = hidden_states.float()
        scale = wide.square().mean(-1, keepdim=True).add_(self._eps).rsqrt_()
        return (wide * scale).to(hidden_states.dtype).mul_(self.weight)


ROTARY_ATTENTION = {"LlamaAttention", "MistralAttention", "Qwen2Attention"}
GATED_MLP = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "Gemma3MLP"}
RMS_NORM = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}


def fuse_parts(network: nn.Module, attach: Attach) -> None:
    """Put fused parts in the place of those that are known; tests/model hold each against transformers' own."""
    for name, module in list(network.named_modules()):
        kind = type(module).__name__
        fused: nn.Module
        if kind in ROTARY_ATTENTION:
            fused = FusedAttention(name, module, attach)
        elif kind in GATED_MLP:
            fused = FusedMlp(name, module, attach)
        elif kind in RMS_NORM:
            fused = FusedRmsNorm(module)
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, fused)


def attach_linears(network: nn.Module, attach: Attach) -> None:
    """Put attachable layers in the place of the linear layers that are left."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, attach({name: module}))


@torch.no_grad()
def replace_parts(network: nn.Module, attach: Attach) -> None:
    """Make a network ready to serve."""
    fuse_parts(network, attach)
    attach_linears(network, attach)
