"""The threshold of matching: in worlds kept apart, fewer near-misses may fire than the gate allows.

Every conversation of `calibration.jsonl` is put to a router that knows its whole world, as it will be by day. Called by
`teaching` once a base has its skills.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tenure.model.chat import ChatFormat
from tenure.model.engine import Engine
from tenure.modules.bi_encoder import BiEncoder
from tenure.modules.cross_encoder import CrossEncoder, save_head
from tenure.modules.detector import MIN_OVERLAP, Detector
from tenure.modules.evidence import knowledge_of
from tenure.modules.router import Router
from tenure.modules.skills import WrittenFact, conversation, worlds_of

NEAR_SHARE = 0.0125  # of the near-misses kept apart may fire: the near-miss suite refuses a night for .02 of its own
UNREAD = -100.0  # log-odds of a conversation that is near no statement


def calibrate(
    engine: Engine, chat: ChatFormat, facts: Sequence[WrittenFact], matching: Path, finding: Path | None
) -> tuple[float, float]:
    """Write the threshold of the skill of matching in `matching`.

    Returns the shares of the facts' questions recognised and of their near-misses fired on.
    """
    encoder = CrossEncoder.load(matching)
    router = Router.empty().reading_with(encoder, BiEncoder.load(finding) if finding else None)
    for name, directory in router.attachments.items():
        engine.add_attachment(name, directory)
    try:
        about_N, near_N = log_odds(engine, chat, facts, router)
    finally:
        for name in router.attachments:
            engine.drop_attachment(name)
    threshold = threshold_at(near_N, NEAR_SHARE)
    save_head(matching, encoder.head, layer=encoder.layer, threshold=threshold)
    return float((about_N >= threshold).float().mean()), float((near_N >= threshold).float().mean())


def threshold_at(near_N: Tensor, share: float) -> float:
    """The lowest threshold that at most this share of the near-misses reach."""
    highest_N = near_N.sort(descending=True).values
    allowed = int(share * len(highest_N))
    return float(torch.nextafter(highest_N[allowed], torch.tensor(torch.inf)))


def log_odds(engine: Engine, chat: ChatFormat, facts: Sequence[WrittenFact], router: Router) -> tuple[Tensor, Tensor]:
    """The likeliest statement's log-odds for every question of the facts, and for every near-miss."""
    assert router.encoder is not None
    about: list[float] = []
    near: list[float] = []
    for world in worlds_of(facts):
        knowing = router.with_detector(_knowing(engine, chat, world, router))
        for found, sides in ((about, [fact.about for fact in world]), (near, [fact.near for fact in world])):
            prompts = [conversation(texts) for side in sides for texts in side]
            choices = knowing.choose_many(engine, chat, prompts, allowed=knowing.modules)
            found += [c.margin + router.encoder.threshold if c else UNREAD for c in choices]
    return torch.tensor(about), torch.tensor(near)


def _knowing(engine: Engine, chat: ChatFormat, world: Sequence[WrittenFact], router: Router) -> Detector:
    """A detector of the world's statements, each with a module of its own."""
    known = [knowledge_of(chat, fact.statement, ()) for fact in world]
    keys: list[Tensor | None] = [None] * len(world)
    if router.finder is not None:
        keys = list(router.finder.places_of_texts(engine, chat, [fact.statement for fact in world]).half()[:, None])
    assert router.encoder is not None
    named = (replace(k, module=f"fact {i}", keys_KC=key) for i, (k, key) in enumerate(zip(known, keys, strict=True)))
    return Detector(router.encoder.layer, router.encoder.threshold, MIN_OVERLAP, tuple(named), {})
