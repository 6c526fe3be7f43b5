"""Low-rank adapters on a frozen network: put on, trained, taken off, written in PEFT's layout.

y = x W^T + scale * (x A^T) B^T  (Hu et al. 2021, LoRA, eq. 3). A and B are kept in float32; the products run in the
network's own precision. Knows no loss and no episodes; called by the training objectives and by tests.

Shapes: N tokens, I inputs, O outputs, R rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tenure.errors import LearnError

ALL_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Placement:
    """Which linears of which layers get an adapter. `last_layer` -1: up to the top."""

    rank: int = 16
    alpha: float = 32.0
    linears: tuple[str, ...] = ALL_LINEARS
    first_layer: int = 0
    last_layer: int = -1

    @property
    def scale(self) -> float:
        """What the product B A is multiplied with."""
        return self.alpha / self.rank

    def layers(self, num_layers: int) -> range:
        """The layer indices, checked against the network. Raises LearnError when none is left."""
        last = self.last_layer if self.last_layer >= 0 else num_layers - 1
        chosen = range(self.first_layer, min(last, num_layers - 1) + 1)
        if not chosen or self.rank < 1 or not self.linears:
            raise LearnError(f"{self} leaves nothing to train in a model of {num_layers} layers; widen it")
        return chosen


class _LowRankProduct(torch.autograd.Function):
    """The adapted linear as one node of the autograd graph: two large and five small products, no copies kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias: Tensor | None, a_RI: Tensor, b_OR: Tensor) -> Tensor:
        x_NI = x.reshape(-1, x.shape[-1])
        a, b = a_RI.to(x.dtype), b_OR.to(x.dtype)
        low_NR = x_NI @ a.T
        y_NO = nn.functional.linear(x_NI, weight_OI, bias)
        y_NO.addmm_(low_NR, b.T)
        ctx.save_for_backward(x_NI, low_NR, weight_OI, a, b)
        ctx.needs_x = x.requires_grad
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_NI, low_NR, weight_OI, a, b = ctx.saved_tensors
        shape = gradients[0].shape
        g_NO = gradients[0].reshape(-1, shape[-1])
        g_NR = g_NO @ b
        grad_a = (g_NR.T @ x_NI).float()
        grad_b = (g_NO.T @ low_NR).float()
        grad_x = None
        if ctx.needs_x:
            grad_x = (g_NO @ weight_OI).addmm_(g_NR, a).view(*shape[:-1], -1)
        return grad_x, None, None, grad_a, grad_b


class LowRankLinear(nn.Module):
    """A frozen linear with trainable factors `a_RI` (random) and `b_OR` (zero, so that it starts as the base).

    With `spared_IK`, orthonormal, A doesn't read these directions of the input, whatever `a_RI` becomes.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, scale: float, generator: torch.Generator, spared_IK: Tensor | None = None
    ) -> None:
        super().__init__()
        self.linear = linear
        self.scale = scale
        self.spared_IK = spared_IK
        bound = 1 / math.sqrt(linear.in_features)  # kaiming_uniform with a = sqrt(5), as PEFT does
        a_RI = torch.empty(rank, linear.in_features).uniform_(-bound, bound, generator=generator)
        device = linear.weight.device
        self.a_RI = nn.Parameter(a_RI.to(device))  # drawn on the CPU, so that a seed means the same on all devices
        self.b_OR = nn.Parameter(torch.zeros(linear.out_features, rank, device=device))

    def a(self) -> Tensor:
        """[R, I] the factor that is applied and saved: `a_RI` outside the spared directions."""
        if self.spared_IK is None:
            return self.a_RI
        return self.a_RI - (self.a_RI @ self.spared_IK) @ self.spared_IK.T

    def forward(self, x: Tensor) -> Tensor:
        """The adapted product; same shape and precision as the linear's own."""
        y: Tensor = _LowRankProduct.apply(x, self.linear.weight, self.linear.bias, self.a(), self.b_OR * self.scale)  # type: ignore[no-untyped-call]
        return y


@dataclass(frozen=True, slots=True)
class Adapter:
    """The adapted linears of one network, by PEFT's key (`model.layers.3.mlp.up_proj`)."""

    placement: Placement
    linears: Mapping[str, LowRankLinear]

    def parameters(self) -> list[nn.Parameter]:
        """All A and B, in a fixed order."""
        return [p for linear in self.linears.values() for p in (linear.a_RI, linear.b_OR)]

    def save(self, directory: Path, *, base_name: str) -> None:
        """Write adapter_config.json and adapter_model.safetensors (float32) as PEFT reads them."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for key, linear in self.linears.items():
            tensors[f"base_model.model.{key}.lora_A.weight"] = linear.a().detach().contiguous()
            tensors[f"base_model.model.{key}.lora_B.weight"] = linear.b_OR.detach().contiguous()
        save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "inference_mode": True,
            "r": self.placement.rank,
            "lora_alpha": self.placement.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted(self.linears),
        }
        (directory / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True), "utf8")


def decoder_layers(network: nn.Module) -> nn.ModuleList:
    """The list of transformer layers of a causal language model in transformers' layout.

    Raises LearnError for a network without one.
    """
    body = getattr(network, "base_model", None)
    layers = getattr(body, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise LearnError(f"{type(network).__name__} has no list of layers to adapt; use a Llama-like causal model")
    return layers


def linears_of(network: nn.Module, placement: Placement) -> dict[str, nn.Linear]:
    """{PEFT key: linear} of every linear that the placement names. Raises LearnError when there is none."""
    return {key: getattr(parent, attribute) for key, parent, attribute in _places(network, placement)}


def _places(network: nn.Module, placement: Placement) -> list[tuple[str, nn.Module, str]]:
    """(PEFT key, parent module, attribute) of every linear that the placement names."""
    layers = decoder_layers(network)
    chosen = {layers[i] for i in placement.layers(len(layers))}
    names = {module: name for name, module in network.named_modules() if module in chosen}
    places = []
    for layer, name in names.items():
        for parent_name, parent in layer.named_modules():
            for attribute, child in parent.named_children():
                if attribute in placement.linears and isinstance(child, nn.Linear):
                    places.append((".".join(filter(None, (name, parent_name, attribute))), parent, attribute))
    if not places:
        raise LearnError(f"no linear named {', '.join(placement.linears)} in {type(network).__name__}; check the names")
    return places


@contextmanager
def adapted(
    network: nn.Module, placement: Placement, *, seed: int, spared: Mapping[str, Tensor] | None = None
) -> Iterator[Adapter]:
    """Put fresh adapters on `network`; leaving takes them off. The base's own tensors are never touched.

    `spared`: for a linear by key, [I, K] orthonormal directions of its input that its adapter must not read.
    """
    generator = torch.Generator().manual_seed(seed)
    places = _places(network, placement)
    originals = [(parent, attribute, getattr(parent, attribute)) for _, parent, attribute in places]
    linears: dict[str, LowRankLinear] = {}
    frozen = {p: p.requires_grad for p in network.parameters()}
    try:
        for p in frozen:
            p.requires_grad_(False)
        for (key, parent, attribute), (_, _, linear) in zip(places, originals, strict=True):
            linears[key] = LowRankLinear(linear, placement.rank, placement.scale, generator, (spared or {}).get(key))
            setattr(parent, attribute, linears[key])
        yield Adapter(placement, linears)
    finally:
        for parent, attribute, linear in originals:
            setattr(parent, attribute, linear)
        for p, needed in frozen.items():
            p.requires_grad_(needed)


class _Passing(nn.Module):
    """Stands in for a layer whose work is already done (or is not wanted): hands its input on."""

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden


@contextmanager
def only_layers(network: nn.Module, layers: range, *, with_norm: bool) -> Iterator[None]:
    """Within, the network runs these layers alone, so that frozen lower layers need to run once only.

    Layer indices stay what they were (some architectures choose mask and rotation by index).
    """
    body: Any = network.base_model
    kept_layers, kept_norm = body.layers, body.norm
    try:
        body.layers = nn.ModuleList(layer if i in layers else _Passing() for i, layer in enumerate(kept_layers))
        if not with_norm:
            body.norm = nn.Identity()
        yield
    finally:
        body.layers, body.norm = kept_layers, kept_norm
