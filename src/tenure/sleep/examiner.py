"""The examiner: gathers the suites for a version, asks version, champion and anchor, and attests the verdict.

Called by the night and by `tenure gate`. The questions of a night are kept as one object, its exam, so that later
versions are asked them too. What passes is decided in `gates/` alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenure.gates.attested import KIND, attest_verdict
from tenure.gates.cache import DirectoryCache
from tenure.gates.examination import examine
from tenure.gates.neighbours import names_in, near_misses
from tenure.gates.suites import Suite, general_suite, golden_suites, neutral_suite
from tenure.gates.verdict import judge
from tenure.model.progress import Progress
from tenure.sleep.answering import EngineAnswerer, House
from tenure.store.digests import canonical_json
from tenure.types import Alias, Episode, Message, QuestionItem, SuiteKind, Verdict

NUM_NEAR_MISSES = 300


@dataclass(frozen=True, slots=True)
class Exam:
    """The held-out questions of one night and owner, and the statements that they are about."""

    items: tuple[QuestionItem, ...]
    facts: tuple[str, ...]


def exam_of(house: House, episodes: Sequence[Episode]) -> str:
    """Keep the held-out questions of a night, and what they are about, as one object; returns its digest.

    It is the acquisition exam of the version made that night, and a retention exam of every version after it.
    """
    asked = [e for e in episodes if e.held_out and e.answer]
    items = [
        QuestionItem(f"{'+'.join(e.source_ids)}/{i}", e.source_ids[0], e.messages, (e.answer,), kind=e.kind)
        for i, e in enumerate(asked)
    ]
    facts = sorted({e.context for e in episodes if e.context})
    return house.store.objects.put_bytes(canonical_json({"items": items, "facts": facts}))


def examine_version(house: House, digest: str, *, progress: Progress | None = None) -> Verdict:
    """Put a version before the gates against champion and anchor, attest the verdict and return it."""
    registry = house.store.registry
    aliases = registry.aliases()
    version, champion, anchor = (
        EngineAnswerer(house, house.served.load(registry.version(name)))
        for name in (digest, aliases[Alias.CHAMPION], aliases[Alias.ANCHOR])
    )
    cache = DirectoryCache(house.config.home / "exams")
    report = examine(version, champion, anchor, suites_for(house, digest), cache=cache, progress=progress)
    # Alpha is spent by every judgement since the anchor was pinned, refused ones included.
    num_judged = sum(len(registry.attestations(record.digest, KIND)) for record in registry.versions())
    night_index = 1 + num_judged
    verdict = judge(report, house.config.gate, night_index=night_index)
    attest_verdict(registry, verdict)
    return verdict


def suites_for(house: House, digest: str) -> list[Suite]:
    """Acquisition and near-miss for what this version learned, retention for what its ancestors did, and the rest."""
    registry = house.store.registry
    lineage = registry.lineage(digest)
    new = [_exam(house, part["exam"]) for part in lineage.candidates.values()]
    old = [_exam(house, part["exam"]) for part in _inherited(house, lineage.parent)]
    facts = [fact for exam in new for fact in exam.facts]
    found = [
        Suite("acquisition", tuple(item for exam in new for item in exam.items), SuiteKind.ACQUISITION),
        general_suite(),
        Suite("near-miss", near_misses(facts, names_in(facts), seed=0, n=NUM_NEAR_MISSES), SuiteKind.NEAR_MISS),
        neutral_suite(),
    ]
    if old:
        found.append(Suite("retention", tuple(item for exam in old for item in exam.items), SuiteKind.RETENTION))
    folder = Path(house.config.gate.suites)
    found += golden_suites(folder if folder.is_absolute() else house.config.home / folder)
    return found


def _inherited(house: House, digest: str) -> Iterator[Mapping[str, Any]]:
    """What the ancestors of a version learned, as their lineage keeps it."""
    while digest:
        lineage = house.store.registry.lineage(digest)
        yield from lineage.candidates.values()
        digest = lineage.parent


def _exam(house: House, digest: str) -> Exam:
    document = json.loads(house.store.objects.bytes(digest))
    items = tuple(
        QuestionItem(
            id=item["id"],
            family=item["family"],
            messages=tuple(Message(m["role"], m["content"]) for m in item["messages"]),
            accepted=tuple(item["accepted"]),
            kind=item["kind"],
        )
        for item in document["items"]
    )
    return Exam(items, tuple(document["facts"]))
