"""Curation: what of the day's experience a night may learn, and why the rest is left out. Rules only, no model call.

One source is one told statement, in the teller's own words. Called by the night's cycle with what the ledger holds;
knows no store, no model and no learner.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from tenure.context.lead_ins import statement_of
from tenure.context.notice import is_correction, is_statement
from tenure.sleep.claims import (
    contradicts,
    leans_back,
    names_somebody,
    normal_form,
    only_announces,
    overlap,
    refers_back,
    sentences_of,
)
from tenure.sleep.secrets import secret_in
from tenure.store.digests import canonical_json, digest_bytes
from tenure.types import Feedback, FeedbackKind, Scope, Turn

PLAIN_TRUST = 0.7
PRAISED_TRUST = 0.8
ANNOUNCED_TRUST = 0.9  # "Actually, ..." said in chat
CORRECTION_TRUST = 1.0  # feedback of kind correction
MAX_WORDS = 60
SOURCE_PREFIX = "src_"
_SMALL_TALK = re.compile(
    r"^(?:thanks|thank you|great|nice|cool|perfect|awesome|lovely|sounds|let's|let us|i'm (?:feeling|doing|just|trying|"
    r"looking|going|not sure|thinking|sorry|curious|so )|"
    r"i (?:think|feel|guess|believe|hope|wish|wonder|suppose|love|"
    r"like|want|need|would|'d|'ll|can't|don't|tried|am (?:looking|trying|feeling)|was wondering)\b|i'd|i'll|"
    r"you (?:are|were|did|said|know)\b|(?P<advice>you (?:can|could|should)\b)|"
    r"that (?:is|was) (?:great|good|nice|fine|right|wrong|not)|that's)",
    re.IGNORECASE,
)
_OBJECTION = re.compile(r"^(?:no|nope|wrong|not quite)\b[,.;:! ]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One statement that a night may learn from. `trust` in [0, 1]; `id` names scope and wording, so it is stable."""

    id: str
    text: str
    scope: Scope
    turn_ids: tuple[str, ...]
    trust: float
    told_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Curated:
    """What is left to learn, oldest first, and what was dropped: (id of turn, feedback or source; reason)."""

    sources: tuple[Source, ...]
    dropped: tuple[tuple[str, str], ...]

    @property
    def reason(self) -> str:
        """Why there is nothing to learn tonight; "" when there is something."""
        if self.sources:
            return ""
        if not self.dropped:
            return "nothing was told since the last night"
        reasons: Counter[str] = Counter()
        for _, reason in self.dropped:
            reasons[reason.partition(":")[0]] += 1
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return f"nothing worth learning: {listed}"

    @property
    def corrected(self) -> frozenset[str]:
        """Ids of the sources that something told later took the place of."""
        return frozenset(id_ for id_, reason in self.dropped if reason.partition(":")[0] in ("superseded", "corrected"))


def statements_of(ids: Iterable[str]) -> frozenset[str]:
    """The statements among the source ids of an artefact; the others are turns."""
    return frozenset(id_ for id_ in ids if id_.startswith(SOURCE_PREFIX))


@dataclass(frozen=True, slots=True)
class _Told:
    source: Source
    session: str
    corrects: bool


def source_id(scope: Scope, text: str) -> str:
    """`src_` and 16 hex digits over the scope and the wording without lead-ins."""
    return SOURCE_PREFIX + digest_bytes(canonical_json([scope, normal_form(text)]))[:16]


def curate(
    turns: Iterable[Turn],
    feedback: Sequence[Feedback] = (),
    *,
    learnt: Collection[str] = (),
    forgotten: Collection[str] = (),
    max_per_principal: int = 96,
    min_trust: float = 0.0,
) -> Curated:
    """Select, resolve corrections, dedupe, drop secrets, cap.

    `turns` ascend in time. `learnt` holds ids of sources that an earlier night took in: they still take part in
    resolving corrections, and are then left out. `forgotten` holds ids of erased turns. A turn contributes only what
    the user said since the model's last reply: earlier messages were in earlier turns, perhaps not learnable ones.
    """
    dropped: list[tuple[str, str]] = []
    told = _told_by_turns(turns, feedback, frozenset(forgotten), dropped)
    current = _without_corrected(_without_repeats(told), dropped)
    fresh = []
    for item in current:
        if item.source.id in learnt:
            dropped.append((item.source.id, "already learnt"))
        elif item.source.trust < min_trust:
            dropped.append((item.source.id, f"too little trust: {item.source.trust:.2f}"))
        else:
            fresh.append(item.source)
    return Curated(_capped(fresh, max_per_principal, dropped), tuple(dropped))


def _told_by_turns(
    turns: Iterable[Turn], feedback: Sequence[Feedback], forgotten: frozenset[str], dropped: list[tuple[str, str]]
) -> list[_Told]:
    of_turn: dict[str, list[Feedback]] = defaultdict(list)
    for entry in feedback:
        of_turn[entry.turn_id].append(entry)
    told: list[_Told] = []
    for turn in turns:
        if turn.id in forgotten:
            continue
        own = [entry for entry in of_turn[turn.id] if entry.scope == turn.scope]
        if not turn.learnable:
            dropped.append((turn.id, "not learnable: the asker opted out"))
            continue
        scores = [entry.score for entry in own if entry.score is not None]
        corrections = [entry for entry in own if entry.kind is FeedbackKind.CORRECTION and entry.text.strip()]
        if scores and min(scores) < 0:
            dropped.append((turn.id, "negative feedback"))
        else:
            trust = PRAISED_TRUST if scores and max(scores) > 0 else PLAIN_TRUST
            told += _statements_of(turn, trust, dropped)
        for entry in corrections:
            told += _correction(turn, entry, dropped)
    return sorted(told, key=lambda item: item.source.told_at)


def _statements_of(turn: Turn, trust: float, dropped: list[tuple[str, str]]) -> list[_Told]:
    texts: list[str] = []
    for message in reversed(turn.messages):
        if message.role == "assistant":
            break
        if message.role == "user":
            texts.insert(0, message.content)
    found = [piece for text in texts for piece in told_statements(text)]
    if not found:
        dropped.append((turn.id, "nothing told: questions, requests or small talk"))
    wrong_before = any(only_announces(sentence) for text in texts for sentence in sentences_of(text))
    result = []
    for text in found:
        secret = secret_in(text)
        if secret:
            dropped.append((turn.id, f"secret: {secret}"))
            continue
        announced = wrong_before or is_correction(text) or bool(_OBJECTION.match(text))
        weight = max(trust, ANNOUNCED_TRUST) if announced else trust
        source = Source(source_id(turn.scope, text), text, turn.scope, (turn.id,), weight, turn.created_at)
        result.append(_Told(source, turn.session, announced))
    return result


def _correction(turn: Turn, entry: Feedback, dropped: list[tuple[str, str]]) -> list[_Told]:
    secret = secret_in(entry.text)
    if secret:
        dropped.append((entry.id, f"secret: {secret}"))
        return []
    result = []
    for text in told_statements(entry.text):
        source = Source(
            source_id(entry.scope, text), text, entry.scope, (turn.id, entry.id), CORRECTION_TRUST, entry.created_at
        )
        result.append(_Told(source, turn.session, corrects=True))
    if not result:
        dropped.append((entry.id, "nothing told: a correction without a statement"))
    return result


def told_statements(text: str) -> tuple[str, ...]:
    """The statements of a message, one a piece; a sentence that leans on the one before it stays with it."""
    pieces: list[str] = []
    for sentence in sentences_of(text):
        if only_announces(sentence) or not is_statement(sentence) or _is_small_talk(sentence):
            continue
        if pieces and leans_back(sentence) and len(f"{pieces[-1]} {sentence}".split()) <= MAX_WORDS:
            pieces[-1] += f" {sentence}"
        else:
            pieces.append(sentence)
    return tuple(pieces)


def _is_small_talk(sentence: str) -> bool:
    """`You can say that again` is; `You can reach Priya at the Lyon desk` is not."""
    found = _SMALL_TALK.match(statement_of(sentence))
    return found is not None and not (found["advice"] and names_somebody(sentence))


def _without_repeats(told: Sequence[_Told]) -> list[_Told]:
    """The same words said again by the same scope are one source, as of the last time, with every turn that says so."""
    merged: dict[str, _Told] = {}
    for item in told:
        before = merged.pop(item.source.id, None)
        if before is not None:
            turn_ids = tuple(dict.fromkeys((*before.source.turn_ids, *item.source.turn_ids)))
            trust = max(before.source.trust, item.source.trust)
            item = replace(item, source=replace(item.source, turn_ids=turn_ids, trust=trust))
        merged[item.source.id] = item
    return list(merged.values())


def _without_corrected(told: Sequence[_Told], dropped: list[tuple[str, str]]) -> list[_Told]:
    """Later wins, within one scope. An unclear correction takes the last thing said with it."""
    alive: list[_Told] = []
    for item in told:
        own = [other for other in alive if other.source.scope == item.source.scope]
        if item.corrects and refers_back(item.source.text):
            last = next((other for other in reversed(own) if other.session == item.session), None)
            if last is not None:
                alive.remove(last)
                dropped.append((last.source.id, f"corrected: by {item.source.turn_ids[-1]}, in words that need it"))
            dropped.append((item.source.id, "unclear: a correction that does not say what it is about"))
            continue
        if refers_back(item.source.text):
            dropped.append((item.source.id, "unclear: it refers to something said elsewhere"))
            continue
        beaten = [other for other in own if contradicts(item.source.text, other.source.text, announced=item.corrects)]
        if item.corrects and beaten:
            beaten = [max(beaten, key=lambda other: overlap(item.source.text, other.source.text))]
        for other in beaten:
            alive.remove(other)
            dropped.append((other.source.id, f"superseded: {item.source.id} says otherwise"))
        alive.append(item)
    return alive


def _capped(sources: Sequence[Source], cap: int, dropped: list[tuple[str, str]]) -> tuple[Source, ...]:
    """At most `cap` sources a principal: the most trusted, then the newest; nobody fills a night alone."""
    of_principal: dict[tuple[str, str], list[Source]] = defaultdict(list)
    for source in sources:
        of_principal[(source.scope.tenant, source.scope.principal)].append(source)
    kept = set()
    for own in of_principal.values():
        ranked = sorted(own, key=lambda s: (-s.trust, -s.told_at, s.id))
        kept |= {source.id for source in ranked[:cap]}
        dropped += [(source.id, f"over the cap: {cap} sources a principal") for source in ranked[cap:]]
    return tuple(source for source in sources if source.id in kept)
