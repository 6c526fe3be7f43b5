"""The served network: transformers' own model code with attachable linear layers, run on packed tokens under a plan.

Shares parameters with the loaded network but not its modules, so that training code may wrap that one. Knows no
requests; called by the batch and by scoring.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tenure.errors import BrokenModel
from tenure.model.language_model import LanguageModel
from tenure.model.nn.attachable_linear import AttachableLinear
from tenure.model.nn.fused_parts import replace_parts
from tenure.model.nn.plan import Desk, Plan
from tenure.model.nn.row_attention import ATTENTION_NAME
from tenure.model.precision import packing_of


class ServedNetwork:
    """One network for all rows: `hidden` runs the layers, `logits` the head on the positions that need it.

    `layers` maps keys to the served linear layers, whose parts are what weight sets and adapters may name.
    Raises BrokenModel for an architecture whose attention can't be replaced.
    """

    def __init__(self, model: LanguageModel, *, compiled: bool = True) -> None:
        self.desk = Desk()
        self.packing = packing_of(model.precision, model.network.dtype, compiled=compiled)
        self._network = _same_parameters(model.network)
        self._network.config.get_text_config()._attn_implementation = ATTENTION_NAME
        self._network.config._attn_implementation = ATTENTION_NAME
        self._decoder: Any = self._network.get_decoder()
        self._head: Any = self._network.get_output_embeddings()
        if self._decoder is None or self._head is None or not hasattr(self._decoder, "layers"):
            name = type(model.network).__name__
            raise BrokenModel(
                f"the engine can't serve {name}: it has no decoder layers or no output head to run by itself"
            )
        self.layers: dict[str, AttachableLinear] = {}
        replace_parts(self._network, self._attach)
        self._head = self._network.get_output_embeddings()
        config = self._decoder.config
        self.num_layers = int(config.num_hidden_layers)
        self.num_kv_heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.dtype: torch.dtype = next(self._decoder.parameters()).dtype
        self.vocab_size = int(self._head.out_features)
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self._cut: dict[int, Any] = {}

    @property
    def compiles(self) -> bool:
        """Whether replies are computed with compiled products, apart from prompts."""
        return any(layer.is_narrow for layer in self.layers.values())

    def _attach(self, linears: Mapping[str, nn.Linear]) -> AttachableLinear:
        layer = AttachableLinear(linears, self.desk, self.packing)
        self.layers[layer.key] = layer
        return layer

    def hidden(self, tokens_N: Tensor, positions_N: Tensor, plan: Plan, *, layer: int | None = None) -> Tensor:
        """Last hidden states [N, C] of the packed tokens; with `layer`, those after that many layers, unnormed."""
        decoder = self._decoder if layer is None else self._cut_after(layer)
        self.desk.plan = plan
        try:
            out = decoder(
                input_ids=tokens_N[None], position_ids=positions_N[None], use_cache=False, plan=plan, return_dict=True
            )
        finally:
            self.desk.plan = None
        hidden: Tensor = out.last_hidden_state[0]
        return hidden

    def logits(self, hidden_NC: Tensor, index_n: Tensor, plan: Plan) -> Tensor:
        """float32 logits [n, V] of a selection of the packed tokens."""
        terms = plan.terms.rows(index_n) if plan.terms is not None else None
        self.desk.plan = Plan(plan.attention, plan.weights, terms, plan.replying)
        try:
            logits: Tensor = self._head(hidden_NC[index_n]).float()
        finally:
            self.desk.plan = None
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits

    def _cut_after(self, layer: int) -> Any:
        """The decoder that stops after `layer` layers, without the final norm; shares every module."""
        if not 0 <= layer <= self.num_layers:
            raise ValueError(f"layer {layer} is not within 0..{self.num_layers}")
        if layer not in self._cut:
            cut = copy.copy(self._decoder)
            cut._modules = {**self._decoder._modules, "norm": nn.Identity()}
            cut.config = copy.copy(self._decoder.config)
            cut.config.num_hidden_layers = layer
            self._cut[layer] = cut
        return self._cut[layer]


def _same_parameters(network: PreTrainedModel) -> Any:
    """A copy of the modules that holds the very same parameters and buffers."""
    shared = {id(p): p for p in network.parameters()} | {id(b): b for b in network.buffers()}
    clone: Any = copy.deepcopy(network, dict(shared))
    return clone
