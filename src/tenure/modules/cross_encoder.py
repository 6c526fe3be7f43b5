"""The skill of matching: the base reads a statement and a conversation together and says whether one answers the other.

A cross-encoder (Nogueira, Cho 2019, Passage re-ranking with BERT, section 3) on the base's lower layers: an adapter
taught once on hand-written facts (`teaching`), and a linear head over the last state and a few numbers about the words.
Its threshold was set on worlds that the adapter has never seen. Called by `router`; knows no module.
Tensors: N conversations, C channels, E lexical features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import layer_norm

from tenure.errors import BrokenModel
from tenure.model.chat import ChatFormat
from tenure.model.engine import Engine
from tenure.modules.evidence import head_length, knowledge_of, match_of, reading_of
from tenure.store.digests import digest_directory
from tenure.types import AttachmentUse, Message

HEAD = "head.safetensors"
HEAD_KEYS = frozenset({"norm_weight", "norm_bias", "weight", "bias", "layer", "threshold"})


@dataclass(frozen=True, slots=True)
class CrossEncoder:
    """`name` is the adapter's in an engine, by content. `layer`: how many layers are read through."""

    directory: Path
    name: str
    layer: int
    threshold: float
    head: Mapping[str, Tensor]

    @classmethod
    def load(cls, directory: Path) -> CrossEncoder:
        """Read a taught skill. Raises BrokenModel when its head can't be read."""
        try:
            head = load_file(directory / HEAD)
        except (OSError, SafetensorError) as error:
            raise BrokenModel(f"the cross-encoder in {directory} can't be read: {error}; teach it again") from error
        if set(head) != HEAD_KEYS:
            raise BrokenModel(f"{directory / HEAD} holds {sorted(head)}, not {sorted(HEAD_KEYS)}; teach it again")
        name = f"matching@{digest_directory(directory)[:16]}"
        return cls(directory, name, int(head["layer"]), float(head["threshold"]), head)

    def scores(self, engine: Engine, chat: ChatFormat, pairs: Sequence[tuple[str, Sequence[Message]]]) -> Tensor:
        """[N] log-odds that each statement answers its conversation. The engine must hold the adapter."""
        window = engine.max_context_tokens
        readings = [reading_of(chat, statement, messages)[0] for statement, messages in pairs]
        length_of = {statement: head_length(chat, statement) for statement, _ in pairs}
        heads = [length_of[s] if len(r) <= window else 0 for (s, _), r in zip(pairs, readings, strict=True)]
        prompts = [reading[-window:] for reading in readings]
        used = (AttachmentUse(self.name),)
        states = engine.hidden_states(prompts, layer=self.layer, attachments=used, heads=heads)
        last_NC = torch.stack([states_TC[-1] for states_TC in states])
        lexical_NE = torch.tensor([words_of(chat, statement, messages) for statement, messages in pairs])
        return head_scores(self.head, last_NC, lexical_NE)


def words_of(chat: ChatFormat, statement: str, messages: Sequence[Message]) -> tuple[float, ...]:
    """What the words alone say of a statement and a conversation."""
    return match_of(chat, [knowledge_of(chat, statement, ())], messages).lexical


def head_scores(head: Mapping[str, Tensor], last_NC: Tensor, lexical_NE: Tensor) -> Tensor:
    """[N] log-odds from last states and lexical features."""
    normal_NC = layer_norm(last_NC.float(), last_NC.shape[-1:], head["norm_weight"], head["norm_bias"])
    return torch.cat([normal_NC, lexical_NE], 1) @ head["weight"] + head["bias"]


def save_head(directory: Path, head: Mapping[str, Tensor], *, layer: int, threshold: float) -> None:
    """Write the head beside its adapter."""
    numbers = {"layer": torch.tensor(layer), "threshold": torch.tensor(threshold)}
    save_file({key: value.detach().cpu().contiguous() for key, value in {**head, **numbers}.items()}, directory / HEAD)
