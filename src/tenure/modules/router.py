"""The router of a version: before prefill it decides which of its modules this request is about; mostly none.

One detector a module; adding a module adds a detector and leaves the others as they are. All are read by the base's
skill of matching; for a base without it each has networks of its own, fitted by night. Whose modules a request may use
at all is the caller's business (`allowed`). A request that shares no rare word with anything learned costs nothing;
otherwise one prefill of at most 300 tokens or so up to the middle layer of the base.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tenure.errors import BrokenModel
from tenure.model.chat import ChatFormat
from tenure.model.engine import Engine
from tenure.modules.cross_encoder import CrossEncoder
from tenure.modules.detector import Detector, fit_detector
from tenure.modules.evidence import Knowledge, Match, evidence_of
from tenure.types import AttachmentUse, Message

__all__ = ["Router", "fit_detector"]

FORMAT = "tenure-router-1"
ENCODER = "matching"


@dataclass(frozen=True, slots=True)
class Router:
    """Detectors in the order in which their modules were added."""

    detectors: tuple[Detector, ...] = ()
    encoder: CrossEncoder | None = None  # decides for the detectors without networks of their own

    @classmethod
    def empty(cls) -> Router:
        """A router that always abstains."""
        return cls()

    def with_detector(self, detector: Detector) -> Router:
        """This router and one more detector; one for the same module is replaced."""
        others = tuple(d for d in self.detectors if d.module != detector.module)
        return replace(self, detectors=(*others, detector))

    def reading_with(self, encoder: CrossEncoder) -> Router:
        """This router with another cross-encoder, at its threshold."""
        detectors = (d if d.weights else replace(d, threshold=encoder.threshold) for d in self.detectors)
        return Router(tuple(detectors), encoder)

    def without(self, modules: Collection[str]) -> Router:
        """This router without the detectors of `modules`."""
        return replace(self, detectors=tuple(d for d in self.detectors if d.module not in modules))

    def choose(
        self, engine: Engine, chat: ChatFormat, messages: Sequence[Message], *, allowed: Collection[str]
    ) -> tuple[AttachmentUse, ...]:
        """The allowed modules that this request asks about; empty when none does."""
        return self.choose_many(engine, chat, [messages], allowed=allowed)[0]

    def choose_many(
        self, engine: Engine, chat: ChatFormat, prompts: Sequence[Sequence[Message]], *, allowed: Collection[str]
    ) -> list[tuple[AttachmentUse, ...]]:
        """`choose` for many requests, read in one batch; each is decided as if it came alone."""
        chosen: list[list[AttachmentUse]] = [[] for _ in prompts]
        for detector in self.detectors:
            if detector.module in allowed:
                for i, score in self.scores(engine, chat, prompts, detector).items():
                    if score >= detector.threshold:
                        chosen[i].append(AttachmentUse(detector.module))
        return [tuple(uses) for uses in chosen]

    def scores(
        self, engine: Engine, chat: ChatFormat, prompts: Sequence[Sequence[Message]], detector: Detector
    ) -> dict[int, float]:
        """{index of a prompt: log-odds}, for the prompts that share enough words with what the module knows."""
        found: dict[int, Match] = {}
        for i, messages in enumerate(prompts):
            match = detector.match(chat, messages)
            if match is not None:
                found[i] = match
        if not found:
            return {}
        pairs = [(detector.known[match.index].statement, prompts[i]) for i, match in found.items()]
        if not detector.weights and self.encoder is not None:
            return dict(zip(found, self.encoder.scores(engine, chat, pairs).tolist(), strict=True))
        evidence_NF = evidence_of(engine, chat, pairs, layer=detector.layer)
        lexical_NE = torch.tensor([match.lexical for match in found.values()])
        return dict(zip(found, detector.scores(evidence_NF, lexical_NE).tolist(), strict=True))

    # ------------------------------------------------------------ files

    def save(self, directory: Path) -> None:
        """Write `router.json` (statements, thresholds, module digests), detectors' networks and the cross-encoder."""
        directory.mkdir(parents=True, exist_ok=True)
        if self.encoder is not None:
            shutil.copytree(self.encoder.directory, directory / ENCODER)
        entries = []
        for detector in self.detectors:
            if detector.weights:
                tensors = {key: tensor.contiguous() for key, tensor in detector.weights.items()}
                save_file(tensors, _weights_of(directory, detector.module))
            entries.append(
                {
                    "module": detector.module,
                    "fitted": bool(detector.weights),
                    "layer": detector.layer,
                    "threshold": detector.threshold,
                    "min_overlap": detector.min_overlap,
                    "known": [
                        {"statement": k.statement, "terms": dict(sorted(k.terms.items())), "names": sorted(k.names)}
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
            return cls(tuple(_detector(directory, entry) for entry in document["detectors"]), encoder)
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BrokenModel(f"the router in {directory} can't be read: {error}; fit it again") from error


def _weights_of(directory: Path, module: str) -> Path:
    return directory / f"{module[:16]}.safetensors"


def _detector(directory: Path, entry: dict[str, Any]) -> Detector:
    known = tuple(Knowledge(k["statement"], k["terms"], frozenset(k["names"])) for k in entry["known"])
    weights = load_file(_weights_of(directory, entry["module"])) if entry.get("fitted", True) else {}
    return Detector(entry["module"], entry["layer"], entry["threshold"], entry["min_overlap"], known, weights)
