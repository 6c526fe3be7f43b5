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

from tenure.model.compiled import added_product, gated_product, normed_product
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
        out_NI = self.attended(self.qkv(hidden_states[0]), position_embeddings, plan)
        return self.out(out_NI[None]), None

    def attended(self, qkv_NO: Tensor, position_embeddings: tuple[Tensor, Tensor], plan: Plan) -> Tensor:
        """What the heads gather, [N, H * D], from queries, keys and values that aren't rotated yet."""
        qkv_N3D = qkv_NO.view(len(qkv_NO), -1, self._head_dim)
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
        return out_NHD.flatten(1)


class FusedRmsNorm(ServedModule):
    """x / sqrt(mean(x^2) + eps) in float32, rounded, times the weight."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight: Tensor = norm.weight
        self.eps: Tensor = torch.tensor(norm.variance_epsilon, dtype=torch.float32)
        self._eps: float = norm.variance_epsilon

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        wide = hidden_states.float()
        scale = wide.square().mean(-1, keepdim=True).add_(self._eps).rsqrt_()
        return (wide * scale).to(hidden_states.dtype).mul_(self.weight)


class FusedLayer(ServedModule):
    """A decoder layer: attention and a gated MLP, each behind a norm and onto the residual.

    For replies whose weights are read as bf16 the norms, the activation and the sums are computed within the products
    that they belong to. Low-rank terms are added between, so that a row without adapters has the same bits beside any.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.input_layernorm: FusedRmsNorm = layer.input_layernorm
        self.self_attn: FusedAttention = layer.self_attn
        self.post_attention_layernorm: FusedRmsNorm = layer.post_attention_layernorm
        self.mlp: FusedMlp = layer.mlp
        if hasattr(layer, "attention_type"):
            self.attention_type: str = layer.attention_type

    def forward(
        self, hidden_states: Tensor, *, position_embeddings: tuple[Tensor, Tensor], plan: Plan, **kwargs: Any
    ) -> Tensor:
        """[1, N, C] to [1, N, C], as transformers' decoder layers."""
        attention, mlp = self.self_attn, self.mlp
        linears = (attention.qkv, attention.out, mlp.gate_up, mlp.down)
        narrow = [linear.narrow(plan) for linear in linears] if plan.replying else []
        if not narrow or any(weight is None for weight in narrow):
            between = hidden_states + attention(self.input_layernorm(hidden_states), position_embeddings, plan)[0]
            after: Tensor = between + mlp(self.post_attention_layernorm(between))
            return after
        qkv_w, out_w, gate_up_w, down_w = (weight for weight in narrow if weight is not None)
        x_NC = hidden_states[0]
        h_NC, qkv_NO = normed_product(x_NC, self.input_layernorm.weight, self.input_layernorm.eps, qkv_w)
        qkv_NO = attention.qkv.finished(h_NC, qkv_NO, plan)
        heads_NI = attention.attended(qkv_NO, position_embeddings, plan)
        x_NC = attention.out.finished(heads_NI, added_product(heads_NI, x_NC, out_w), plan)
        norm = self.post_attention_layernorm
        h_NC, both_NO = normed_product(x_NC, norm.weight, norm.eps, gate_up_w)
        both_NO = mlp.gate_up.finished(h_NC, both_NO, plan)
        a_NW, x_NC = gated_product(both_NO.view(len(x_NC), 2, -1), x_NC, down_w)
        return mlp.down.finished(a_NW, x_NC, plan)[None]


ROTARY_ATTENTION = {"LlamaAttention", "MistralAttention", "Qwen2Attention"}
GATED_MLP = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "Gemma3MLP"}
RMS_NORM = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}
LAYER = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer"}
SILU = {"SiLU", "SiLUActivation"}


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


def fuse_layers(network: nn.Module) -> None:
    """Put fused layers in the place of those whose parts are all fused."""
    for name, module in list(network.named_modules()):
        if type(module).__name__ in LAYER and type(module.mlp.act_fn).__name__ in SILU:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, FusedLayer(module))


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
    fuse_layers(network)
    attach_linears(network, attach)
