"""The skill of finding: where a question and the statements that may answer it lie, to find those by more than words.

A bi-encoder (Karpukhin et al. 2020, Dense passage retrieval, eq. 1): the base's lower layers with an adapter taught
once on hand-written facts (`find_lesson`), so that a question lies near the statement that answers it. A text's place
is the mean of its states, at length 1. Called by `detector`, which makes a module's keys, and by `router`; knows no
module.
Shapes: N texts, K keys, C channels of the base.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tenure.errors import BrokenModel
from tenure.model.chat import ChatFormat
from tenure.model.engine import Engine
from tenure.modules.evidence import said
from tenure.store.digests import digest_directory
from tenure.types import AttachmentUse, Message

DEPTH = "bi_encoder.json"


@dataclass(frozen=True, slots=True)
class BiEncoder:
    """`name` is the adapter's in an engine, by content. `layer`: how many layers are read through."""

    directory: Path
    name: str
    layer: int

    @classmethod
    def load(cls, directory: Path) -> BiEncoder:
        """Read a taught skill. Raises BrokenModel when it can't be read."""
        try:
            layer = int(json.loads((directory / DEPTH).read_text("utf8"))["layer"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BrokenModel(f"the bi-encoder in {directory} can't be read: {error}; teach it again") from error
        return cls(directory, f"finding@{digest_directory(directory)[:16]}", layer)

    def places_of_texts(self, engine: Engine, chat: ChatFormat, texts: Sequence[str]) -> Tensor:
        """[N, C] places of texts as they stand. The engine must hold the adapter."""
        prompts = [text_tokens(chat, text)[: engine.max_context_tokens] for text in texts]
        states = engine.hidden_states(prompts, layer=self.layer, attachments=(AttachmentUse(self.name),))
        return torch.stack([place_of(states_TC) for states_TC in states])

    def places(self, engine: Engine, chat: ChatFormat, prompts: Sequence[Sequence[Message]]) -> Tensor:
        """[N, C] places of what the user said last, with what was said before it."""
        return self.places_of_texts(engine, chat, [users_words(messages) for messages in prompts])


def text_tokens(chat: ChatFormat, text: str) -> tuple[int, ...]:
    """A text as it is placed."""
    return tuple(chat.encode_text(text, begin=True))


def place_of(states_TC: Tensor) -> Tensor:
    """[C] mean state at length 1, the first token (which marks the beginning) left out where there is another one."""
    kept_TC = states_TC[1:] if len(states_TC) > 1 else states_TC
    return normalize(kept_TC.float().mean(0), dim=0)


def users_words(messages: Sequence[Message]) -> str:
    """What the user said last and before; what a model said is left out."""
    return " ".join(part for part in said([m for m in messages if m.role == "user"]) if part)


def save_depth(directory: Path, layer: int) -> None:
    """Write how many layers a taught adapter reads through, beside it."""
    (directory / DEPTH).write_text(json.dumps({"layer": layer}) + "\n", "utf8")


def nearest_by_keys(
    places_NC: Tensor, keys: Sequence[Tensor], num_nearest: int, *, least: float, behind: float
) -> list[list[int]]:
    """For each place, which of the key sets (each [K, C]) hold the nearest keys, nearest first.

    A set whose nearest key is at a cosine below `least`, or more than `behind` below the nearest set's, is left out.
    """
    nearness_NS = torch.stack([(places_NC @ keys_KC.float().T).max(1).values for keys_KC in keys], 1)
    top = nearness_NS.topk(min(num_nearest, len(keys)), dim=1)
    rows = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    return [
        [i for value, i in zip(values, indices, strict=True) if value >= max(least, values[0] - behind)]
        for values, indices in rows
    ]
