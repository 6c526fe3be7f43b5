"""Keys: where in the base's own states a statement and the questions about it lie, to find it by more than its words.

A text's place is the mean of its states after the lower fifth of the layers, whitened by the states of ordinary
questions (Su et al. 2021, Whitening sentence representations, eq. 2 to 5): unwhitened, a few directions that all texts
share drown what they say. Nothing of users is in it but the keys themselves. Called by `detector` and `router`.
Shapes: N texts, K keys, C channels of the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from tenure.model.chat import ChatFormat
from tenure.model.engine import Engine
from tenure.modules.evidence import said
from tenure.modules.skills import conversation, neutral_prompts, written_facts
from tenure.types import Message

LAYER_SHARE = 0.2  # of the base's layers
FACTS_APART = 6  # every sixth written fact lends questions to whiten by
RIDGE = 0.01  # of the mean variance, added to every direction


@dataclass(frozen=True, slots=True)
class KeySpace:
    """The whitened space of one base: `layer` layers are read, then (state - mean_C) @ whitening_CC, at length 1."""

    layer: int
    mean_C: Tensor
    whitening_CC: Tensor

    @classmethod
    def fit(cls, engine: Engine, chat: ChatFormat) -> KeySpace:
        """The space of the engine's base, from questions of our own writing; the same for the same base."""
        layer = max(1, round(LAYER_SHARE * engine.num_layers))
        asked = [conversation(texts) for fact in written_facts()[::FACTS_APART] for texts in fact.about[:4]]
        asked += [conversation([prompt]) for prompt in neutral_prompts()]
        states_NC = _states(engine, chat, [_text(messages) for messages in asked], layer).double()
        mean_C = states_NC.mean(0)
        covariance_CC = torch.cov((states_NC - mean_C).T)
        ridge = RIDGE * covariance_CC.diagonal().mean() + torch.finfo(torch.float32).tiny
        values_C, vectors_CC = torch.linalg.eigh(covariance_CC + ridge * torch.eye(len(mean_C), dtype=torch.float64))
        whitening_CC = vectors_CC * values_C.rsqrt() @ vectors_CC.T
        return cls(layer, mean_C.float(), whitening_CC.float())

    def places_of_texts(self, engine: Engine, chat: ChatFormat, texts: Sequence[str]) -> Tensor:
        """[N, C] places of statements and questions as they stand."""
        return self._placed(_states(engine, chat, texts, self.layer))

    def places(self, engine: Engine, chat: ChatFormat, prompts: Sequence[Sequence[Message]]) -> Tensor:
        """[N, C] places of what the user said last, with what was said before it."""
        return self.places_of_texts(engine, chat, [_text(messages) for messages in prompts])

    def _placed(self, states_NC: Tensor) -> Tensor:
        return normalize((states_NC - self.mean_C) @ self.whitening_CC, dim=1)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        layer = torch.tensor(self.layer)
        save_file({"layer": layer, "mean": self.mean_C, "whitening": self.whitening_CC.contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> KeySpace:
        """Read what `save` wrote. Raises OSError, KeyError or SafetensorError when it can't be read."""
        tensors = load_file(path)
        return cls(int(tensors["layer"]), tensors["mean"], tensors["whitening"])


def nearest_by_keys(places_NC: Tensor, keys: Sequence[Tensor], num_nearest: int, least: float) -> list[list[int]]:
    """For each place, which of the key sets (each [K, C]) hold the nearest keys, nearest first.

    A set whose nearest key is at a cosine below `least` is left out.
    """
    nearness_NS = torch.stack([(places_NC @ keys_KC.float().T).max(1).values for keys_KC in keys], 1)
    top = nearness_NS.topk(min(num_nearest, len(keys)), dim=1)
    rows = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    return [[i for value, i in zip(values, indices, strict=True) if value >= least] for values, indices in rows]


def _text(messages: Sequence[Message]) -> str:
    """The user's own words, the last message's and those before; what a model said is left out."""
    return " ".join(part for part in said([m for m in messages if m.role == "user"]) if part)


def _states(engine: Engine, chat: ChatFormat, texts: Sequence[str], layer: int) -> Tensor:
    """[N, C] mean states, the first token (which marks the beginning) left out where there is another one."""
    window = engine.max_context_tokens
    prompts = [tuple(chat.encode_text(text, begin=True))[:window] for text in texts]
    states = engine.hidden_states(prompts, layer=layer)
    return torch.stack([(s_TC[1:] if len(s_TC) > 1 else s_TC).float().mean(0) for s_TC in states])
