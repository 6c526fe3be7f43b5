"""The router of a version: before prefill it decides which of its modules this request is about; mostly none.

Words and keys find the few nearest of all statements that the asker's modules learned; the base's skill of matching
reads each beside the request, and the likeliest one's module is used if it is likely enough: some hundred tokens
through half of the base. For a base without that skill, each night has networks of its own. Whose modules a request may
use at all is the caller's business (`allowed`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tenure.errors import BrokenModel
from tenure.model.chat import ChatFormat
from tenure.model.engine import Engine
from tenure.modules.bi_encoder import BiEncoder, nearest_by_keys
from tenure.modules.cross_encoder import CrossEncoder
from tenure.modules.detector import MIN_OVERLAP, Detector, fit_detector
from tenure.modules.evidence import (
    MAX_BEHIND,
    MIN_NEARNESS,
    NUM_READ,
    NUM_READ_BY_KEYS,
    Knowledge,
    Match,
    evidence_of,
    matches_of,
    said,
)
from tenure.types import Message

__all__ = ["Choice", "Router", "fit_detector"]

FORMAT = "tenure-router-3"
ENCODER = "matching"
FINDER = "finding"


@dataclass(frozen=True, slots=True)
class Choice:
    """The nearest module of a request, and by how many log-odds it clears its threshold (below 0: not used)."""

    module: str
    margin: float

    @property
    def fires(self) -> bool:
        """Whether the request is to be answered with the module."""
        return self.margin >= 0


@dataclass(frozen=True, slots=True)
class Router:
    """Detectors in the order in which they were added."""

    detectors: tuple[Detector, ...] = ()
    encoder: CrossEncoder | None = None  # decides for the detectors without networks of their own
    finder: BiEncoder | None = None  # made their keys

    @classmethod
    def empty(cls) -> Router:
        """A router that always abstains."""
        return cls()

    @property
    def modules(self) -> frozenset[str]:
        """Every module that it can choose."""
        return frozenset(k.module for d in self.detectors for k in d.known)

    def with_detector(self, detector: Detector) -> Router:
        """This router and one more detector; what was known of its modules before is replaced."""
        others = self.without({k.module for k in detector.known}).detectors
        return replace(self, detectors=(*others, detector))

    @property
    def attachments(self) -> dict[str, Path]:
        """{name: directory} of the adapters that an engine must hold for it."""
        return {skill.name: skill.directory for skill in (self.encoder, self.finder) if skill is not None}

    def reading_with(self, encoder: CrossEncoder, finder: BiEncoder | None) -> Router:
        """This router with another cross-encoder, at its threshold, and a bi-encoder if it has none yet: keys that
        one of them made mean nothing to another."""
        return replace(self, encoder=encoder, finder=self.finder or finder)

    def without(self, modules: Collection[str]) -> Router:
        """This router without what `modules` learned."""
        kept = (detector.without(modules) for detector in self.detectors)
        return replace(self, detectors=tuple(detector for detector in kept if detector.known))

    def choose(
        self, engine: Engine, chat: ChatFormat, messages: Sequence[Message], *, allowed: Collection[str]
    ) -> Choice | None:
        """The nearest allowed module; None when the request is near nothing that one of them learned."""
        return self.choose_many(engine, chat, [messages], allowed=allowed)[0]

    def choose_many(
        self, engine: Engine, chat: ChatFormat, prompts: Sequence[Sequence[Message]], *, allowed: Collection[str]
    ) -> list[Choice | None]:
        """`choose` for many requests, read in one batch; each is decided as if it came alone."""
        chosen: list[Choice | None] = [None] * len(prompts)
        readers = [d for d in self.detectors if not d.weights]
        if readers and self.encoder is not None:
            known = [k for d in readers for k in d.known if k.module in allowed]
            self._read(engine, chat, prompts, known, None, chosen)
        for detector in self.detectors:
            if detector.weights:
                known = [k for k in detector.known if k.module in allowed]
                self._read(engine, chat, prompts, known, detector, chosen)
        return chosen

    def _read(
        self,
        engine: Engine,
        chat: ChatFormat,
        prompts: Sequence[Sequence[Message]],
        known: Sequence[Knowledge],
        detector: Detector | None,
        chosen: list[Choice | None],
    ) -> None:
        """Read every prompt beside its nearest statements and keep what is likelier than the choice so far."""
        if not known:
            return
        found = by_words(chat, prompts, known, detector)
        if detector is None:
            found = self._also_by_keys(engine, chat, prompts, known, found)
        if not found:
            return
        pairs = [(known[match.index].statement, prompts[i]) for i, match in found]
        if detector is not None:
            evidence_NF = evidence_of(engine, chat, pairs, layer=detector.layer)
            scores_N = detector.scores(evidence_NF, torch.tensor([match.lexical for _, match in found]))
            margins_N = scores_N - detector.threshold
        else:
            assert self.encoder is not None
            margins_N = self.encoder.scores(engine, chat, pairs) - self.encoder.threshold
        for (i, match), margin in zip(found, margins_N.tolist(), strict=True):
            before = chosen[i]
            if before is None or margin > before.margin:
                chosen[i] = Choice(known[match.index].module, margin)

    def _also_by_keys(
        self,
        engine: Engine,
        chat: ChatFormat,
        prompts: Sequence[Sequence[Message]],
        known: Sequence[Knowledge],
        found: Sequence[tuple[int, Match]],
    ) -> list[tuple[int, Match]]:
        """What words found, and the statements whose keys are nearest, whether a word is shared or not."""
        keyed = {i: k.keys_KC for i, k in enumerate(known) if k.keys_KC is not None}
        asked = [i for i, messages in enumerate(prompts) if said(messages)[1].strip()]
        if self.finder is None or not keyed or not asked:
            return list(found)
        places_NC = self.finder.places(engine, chat, [prompts[i] for i in asked])
        nearest = nearest_by_keys(
            places_NC, list(keyed.values()), NUM_READ_BY_KEYS, least=MIN_NEARNESS, behind=MAX_BEHIND
        )
        numbers = list(keyed)
        known_pairs = {(i, match.index) for i, match in found}
        more = [(i, numbers[j]) for i, near in zip(asked, nearest, strict=True) for j in near]
        return [*found, *((i, Match(j, 0.0, ())) for i, j in more if (i, j) not in known_pairs)]

    # ------------------------------------------------------------ files

    def save(self, directory: Path) -> None:
        """Write `router.json` (statements, thresholds, module digests), networks, both encoders and keys."""
        directory.mkdir(parents=True, exist_ok=True)
        if self.encoder is not None:
            shutil.copytree(self.encoder.directory, directory / ENCODER)
        if self.finder is not None:
            shutil.copytree(self.finder.directory, directory / FINDER)
        entries = []
        for number, detector in enumerate(self.detectors):
            if detector.weights:
                tensors = {key: tensor.contiguous() for key, tensor in detector.weights.items()}
                save_file(tensors, _weights_of(directory, number))
            keys = {str(i): k.keys_KC for i, k in enumerate(detector.known) if k.keys_KC is not None}
            if keys:
                save_file(keys, _keys_of(directory, number))
            entries.append(
                {
                    "fitted": bool(detector.weights),
                    "layer": detector.layer,
                    "threshold": detector.threshold,
                    "min_overlap": detector.min_overlap,
                    "known": [
                        {
                            "module": k.module,
                            "statement": k.statement,
                            "terms": dict(sorted(k.terms.items())),
                            "names": sorted(k.names),
                        }
                        for k in detector.known
                    ],
                }
            )
        document = {"format": FORMAT, "detectors": entries}
        (directory / "router.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf8")

    @classmethod
    def load(cls, directory: Path) -> Router:
        """Read what `save` wrote. Raises BrokenModel when it can't be read or is of another format."""
        try:
            document = json.loads((directory / "router.json").read_text("utf8"))
            if document.get("format") != FORMAT:
                raise BrokenModel(
                    f"{directory} holds a router of format {document.get('format')!r}, not {FORMAT!r}; fit it again"
                )
            encoder = CrossEncoder.load(directory / ENCODER) if (directory / ENCODER).is_dir() else None
            entries = enumerate(document["detectors"])
            finder = BiEncoder.load(directory / FINDER) if (directory / FINDER).is_dir() else None
            return cls(tuple(_detector(directory, number, entry) for number, entry in entries), encoder, finder)
        except (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
            raise BrokenModel(f"the router in {directory} can't be read: {error}; fit it again") from error


def by_words(
    chat: ChatFormat, prompts: Sequence[Sequence[Message]], known: Sequence[Knowledge], detector: Detector | None
) -> list[tuple[int, Match]]:
    """(index of a prompt, a statement near it in words); a fitted detector knows nearest statements only."""
    num, min_overlap = (NUM_READ, MIN_OVERLAP) if detector is None else (1, detector.min_overlap)
    return [
        (i, match)
        for i, messages in enumerate(prompts)
        for match in matches_of(chat, known, messages, num)
        if match.overlap >= min_overlap
    ]


def _weights_of(directory: Path, number: int) -> Path:
    return directory / f"detector-{number}.safetensors"


def _keys_of(directory: Path, number: int) -> Path:
    return directory / f"keys-{number}.safetensors"


def _detector(directory: Path, number: int, entry: dict[str, Any]) -> Detector:
    path = _keys_of(directory, number)
    keys = load_file(path) if path.is_file() else {}
    known = tuple(
        Knowledge(k["statement"], k["terms"], frozenset(k["names"]), k["module"], keys.get(str(i)))
        for i, k in enumerate(entry["known"])
    )
    weights = load_file(_weights_of(directory, number)) if entry["fitted"] else {}
    return Detector(entry["layer"], entry["threshold"], entry["min_overlap"], known, weights)
