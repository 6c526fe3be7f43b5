"""The examiner: gathers the suites for a version, asks version, champion and anchor, and attests the verdict.

Called by the night and by `tenure gate`. The questions of a night are kept as one object, its exam, so that later
versions are asked them too. What passes is decided in `gates/` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tenure.gates.attested import KIND, attest_verdict
from tenure.gates.cache import DirectoryCache
from tenure.gates.examination import examine
from tenure.gates.neighbours import names_in, near_misses
from tenure.gates.suites import Suite, general_suite, golden_suites, neutral_suite
from tenure.gates.verdict import fails, judge
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


def examine_version(
    house: House,
    digest: str,
    *,
    whole: bool = True,
    progress: Progress | None = None,
    took: Callable[[str, float], None] = lambda suite, seconds: None,
) -> Verdict:
    """Put a version before the gates against champion and anchor, attest the verdict and return it.

    Unless the `whole` exam is asked for, it ends with the first suite that refuses the version. `took` is told the
    seconds of every suite that was asked.
    """
    registry = house.store.registry
    aliases = registry.aliases()
    version, champion, anchor = (
        EngineAnswerer(house, house.served.load(registry.version(name)))
        for name in (digest, aliases[Alias.CHAMPION], aliases[Alias.ANCHOR])
    )
    cache = DirectoryCache(house.config.home / "exams")
    # Alpha is spent by every judgement since the anchor was pinned, refused ones included.
    num_judged = sum(len(registry.attestations(record.digest, KIND)) for record in registry.versions())
    refused = partial(fails, policy=house.config.gate, night_index=1 + num_judged)
    report = examine(
        version,
        champion,
        anchor,
        suites_for(house, digest),
        refused=None if whole else refused,
        cache=cache,
        progress=progress,
    )
    for suite in report.suites:
        for name, seconds in ((suite.suite, suite.seconds), (f"{suite.suite}, forced", suite.forced_seconds)):
            if seconds:
                took(name, seconds)
    verdict = judge(report, house.config.gate, night_index=1 + num_judged)
    attest_verdict(registry, verdict)
    return verdict


def suites_for(house: House, digest: str) -> list[Suite]:
    """Acquisition and near-miss for what this version learned, retention for what it has from before, and the rest.

    The quick ones come first. What the version no longer holds (a statement that was corrected) isn't asked for.
    """
    registry = house.store.registry
    lineage = registry.lineage(digest)
    version = registry.version(digest)
    held = {m.digest for m in version.modules} | {d.digest for d in version.deltas}
    new = [_exam(house, part["exam"]) for part in lineage.candidates.values()]
    inherited = learned_parts(house, lineage.parent)
    old = [_exam(house, part["exam"]) for artefact, part in inherited if artefact in held]
    facts = [fact for exam in new for fact in exam.facts]
    found = [
        Suite("acquisition", tuple(item for exam in new for item in exam.items), SuiteKind.ACQUISITION),
        general_suite(),
        neutral_suite(),
    ]
    if old:
        found.append(Suite("retention", tuple(item for exam in old for item in exam.items), SuiteKind.RETENTION))
    folder = Path(house.config.gate.suites)
    found += golden_suites(folder if folder.is_absolute() else house.config.home / folder)
    silence = near_misses(facts, names_in(facts), seed=0, n=NUM_NEAR_MISSES)
    return [*found, Suite("near-miss", silence, SuiteKind.NEAR_MISS)]


def learned_parts(house: House, digest: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(digest of the artefact, what lineage keeps of it) for all that a version and its ancestors learned."""
    while digest:
        lineage = house.store.registry.lineage(digest)
        yield from lineage.candidates.items()
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
