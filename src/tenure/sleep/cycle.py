"""The night: ledger -> curate -> synthesize -> learn -> assemble -> gate -> promote, in one function.

Read `night` from top to bottom; every line of it is a stage with a file of its own. A stage that finished is a
checkpoint, so a night that was killed goes on where it stopped; the champion moves in the last line and nowhere else.
Called by `Runtime.sleep`; it shares nothing with the server but the store.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tenure.config import Config
from tenure.errors import Cancelled, OutOfTime, TenureError
from tenure.gates.verdict import check_policy
from tenure.model.language_model import LanguageModel, load_language_model, native_precision
from tenure.model.progress import Progress
from tenure.modules.bi_encoder import BiEncoder
from tenure.modules.cross_encoder import CrossEncoder
from tenure.modules.detector import fit_detector, read_detector
from tenure.modules.learner import Learner
from tenure.modules.router import Router
from tenure.modules.skills import ASKING, FINDING, MATCHING, skill, skilled
from tenure.sleep.answering import House
from tenure.sleep.assembly import assemble
from tenure.sleep.curation import Curated, curate, statements_of
from tenure.sleep.examiner import exam_of, examine_version, learned_parts
from tenure.sleep.journal import Journal, candidate_document
from tenure.sleep.lessons import Lesson, lessons_of
from tenure.sleep.synthesis import synthesize
from tenure.store.digests import canonical_json, digest_bytes, version_digest
from tenure.store.nights import NightStatus
from tenure.types import Alias, Audience, DeltaRef, Episode, ModuleKind, ModuleRef, Outcome, Verdict
from tenure.weights.learners import LEARNERS

SYNTHESIS_SHARE = 0.20
GATE_SHARE = 0.35  # kept for the exam, until one was held and its seconds are known
LEAST_FOR_LEARNING = 0.5  # of what self-study left, whatever exams take
LEAST_OF_QUICKEST = 0.5  # of the time that the quickest lesson took: with less left, none is begun


@dataclass(frozen=True, slots=True)
class NightSettings:
    """How one night is to be spent. `propose` stops before promotion."""

    learner: str
    budget_seconds: float
    seed: int
    propose: bool
    min_sources: int

    @classmethod
    def of(cls, config: Config, **changes: Any) -> NightSettings:
        """The settings of [night], with the changes that aren't None."""
        night_config = config.night
        values = {name: getattr(night_config, name) for name in cls.__dataclass_fields__}
        return cls(**{**values, **{k: v for k, v in changes.items() if v is not None}})


@dataclass(frozen=True, slots=True)
class NightResult:
    """How a night ended: `status` is promoted, proposed, refused or nothing; `reason` says why in words."""

    night_id: str
    status: str
    reason: str
    version: str = ""
    verdict: Verdict | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    suite_seconds: Mapping[str, float] = field(default_factory=dict)
    num_sources: int = 0
    num_episodes: int = 0

    def summary(self) -> dict[str, Any]:
        """Everything but the verdict, which is attested beside the version."""
        values = asdict(self)
        del values["verdict"]
        return values


def night(
    house: House, settings: NightSettings, *, night_id: str | None = None, progress: Progress | None = None
) -> NightResult:
    """Spend one night. Raises LearnError, StoreError or GateError after noting them; the champion stays in any case."""
    check_policy(house.config.gate)
    journal = Journal.begin(house.store, asdict(settings), night_id, budget_seconds=settings.budget_seconds)
    registry = house.store.registry
    champion = registry.aliases()[Alias.CHAMPION]
    try:
        with journal.stage("curate"):
            curated = curate_since(house, champion)
        if len(curated.sources) < settings.min_sources and not journal.finished("synthesize"):
            return _end(journal, "nothing", _too_little(curated, settings.min_sources))

        with journal.stage("synthesize"):
            episodes = self_study(house, journal, curated, settings, progress)
        lessons = lessons_of(episodes, by_statement=LEARNERS[settings.learner].by_statement)
        if not lessons:
            return _end(journal, "nothing", "no question written about the new statements survived its check")

        with journal.stage("learn"):
            learned = learn(house, journal, lessons, settings, progress)

        with journal.stage("assemble"):
            outdated = outdated_modules(house, champion, curated)
            version = put_version(house, journal, champion, learned, lessons, settings, outdated)

        with journal.stage("gate"):
            verdict = examine_version(house, version, whole=False, progress=progress, took=journal.suite_took)

        if verdict.outcome is not Outcome.PASSED:
            return _end(journal, "refused", "; ".join(verdict.reasons), version, verdict, curated, episodes)
        registry.challenge(version)
        if settings.propose:
            reason = f"passed and waits for a person: tenure promote {version[:12]}"
            return _end(journal, "proposed", reason, version, verdict, curated, episodes)
        registry.promote(version, verdict)
        return _end(journal, "promoted", "passed every gate", version, verdict, curated, episodes)
    except TenureError as error:
        journal.end("cancelled" if isinstance(error, Cancelled) else "failed", {"reason": str(error)})
        raise
    except KeyboardInterrupt:
        journal.event("interrupted; `tenure sleep` goes on from the last finished stage")
        raise


# ---------------------------------------------------------------- the stages


def curate_since(house: House, champion: str) -> Curated:
    """What was said and is not yet in the champion; its lineage names the sources that it has learned."""
    ledger = house.store.ledger
    return curate(
        (turn for _, turn in ledger.turns()),
        [entry for _, entry in ledger.feedback()],
        learnt=frozenset(learned_sources(house, champion)),
        forgotten=ledger.erased(),
        max_per_principal=house.config.night.max_per_principal,
    )


def learned_sources(house: House, digest: str) -> Iterator[str]:
    """Ids of the sources that a version and its ancestors learned."""
    for _, part in learned_parts(house, digest):
        yield from part["source_ids"]


def outdated_modules(house: House, champion: str, curated: Curated) -> frozenset[str]:
    """Modules of the champion all of whose statements were corrected since, or that learned from an erased turn."""
    erased = house.store.ledger.erased()
    found = set()
    for artefact, part in learned_parts(house, champion):
        statements = statements_of(part["source_ids"])
        corrected = bool(statements) and statements <= curated.corrected
        if part["place"] == "module" and (corrected or erased & set(part["source_ids"])):
            found.add(artefact)
    return frozenset(found)


def self_study(
    house: House, journal: Journal, curated: Curated, settings: NightSettings, progress: Progress | None
) -> tuple[Episode, ...]:
    """Questions about the sources, with the source in the model's context, checked against the source.

    A night that was refused has already studied them: what it wrote about the same sources with the same seed is taken.
    """
    sources = [(source.id, source.text) for source in curated.sources]
    subject = digest_bytes(canonical_json([sources, settings.seed, version_digest(house.model.version())]))
    kept = journal.kept_episodes("synthesize") or journal.earlier_episodes("synthesize", subject)
    if kept is None:
        with skilled(house.engine, house.model, ASKING):
            kept = synthesize(
                house.engine,
                house.model.chat,
                curated.sources,
                seed=settings.seed,
                budget_seconds=min(SYNTHESIS_SHARE * settings.budget_seconds, journal.left_seconds),
                progress=progress,
            ).episodes
    if journal.finished("synthesize") is None:
        journal.keep_episodes("synthesize", kept, subject=subject)
    return kept


def learn(
    house: House,
    journal: Journal,
    lessons: Mapping[Lesson, Sequence[Episode]],
    settings: NightSettings,
    progress: Progress | None,
) -> dict[Lesson, Mapping[str, Any]]:
    """Train on each lesson from the frozen base, in its share of the time that is left for learning.

    Returns {digest, place, candidate} for each, kept as checkpoints one by one. What no time is left for, or what took
    all its share before the first step (other work on the machine), stays for the next night. Raises OutOfTime when
    that is all of them.
    """
    learner = LEARNERS[settings.learner]()
    done = {lesson: journal.finished(f"learn {lesson.name}") for lesson in lessons}
    learned = {lesson: kept for lesson, kept in done.items() if kept is not None}
    if len(learned) == len(lessons):
        return learned
    network = load_language_model(
        house.model.directory, precision=native_precision(), threads=house.config.model.threads
    )
    started = time.monotonic()
    learner.prepare(network)
    left = journal.left_seconds
    ends = started + max(left - gate_seconds(house, settings.budget_seconds), LEAST_FOR_LEARNING * left)
    waiting = [lesson for lesson in lessons if lesson not in learned]
    quickest = 0.0
    while waiting:
        began = time.monotonic()
        if learned and ends - began < LEAST_OF_QUICKEST * quickest:
            journal.event(f"no time left to learn {len(waiting)} of {len(lessons)}: the next night's")
            break
        share = (ends - began) / len(waiting)
        lesson = waiting.pop(0)
        journal.stop_if_cancelled(f"learning {lesson.name}")
        try:
            learned[lesson] = _learn_one(
                house, journal, lesson, lessons[lesson], learner, network, share, settings.seed
            )
        except OutOfTime:
            if not learned and not waiting:
                raise
            journal.event(f"{lesson.name} had no time for a step in its {share:.0f} seconds: the next night's")
            continue
        seconds = time.monotonic() - began
        quickest = min(quickest or seconds, seconds)
        if progress:
            progress("learning", len(lessons) - len(waiting), len(lessons))
    return learned


def gate_seconds(house: House, budget_seconds: float) -> float:
    """What to keep of a night's budget for its exam: the most that one of the last whole ones took here, else a share.

    A refused version's exam may have ended early, and that of a night that was cut off counts from where it went on.
    """
    whole = (NightStatus.PROMOTED, NightStatus.PROPOSED)
    taken = [night.result["seconds"]["gate"] for night in house.store.nights.list() if night.status in whole]
    return max(taken, default=GATE_SHARE * budget_seconds)


def _learn_one(
    house: House,
    journal: Journal,
    lesson: Lesson,
    episodes: Sequence[Episode],
    learner: Learner,
    network: LanguageModel,
    budget_seconds: float,
    seed: int,
) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tenure-night-") as folder:
        candidate = learner.learn(
            network,
            [episode for episode in episodes if not episode.held_out],
            budget_seconds=budget_seconds,
            seed=seed,
            directory=Path(folder) / "artefact",
        )
        digest = house.store.objects.put_directory(Path(candidate.directory))
    done = {"digest": digest, "place": candidate.place, "candidate": candidate_document(candidate, digest)}
    journal.checkpoint(f"learn {lesson.name}", done)
    return done


def put_version(
    house: House,
    journal: Journal,
    champion: str,
    learned: Mapping[Lesson, Mapping[str, Any]],
    taught: Mapping[Lesson, Sequence[Episode]],
    settings: NightSettings,
    outdated: Collection[str],
) -> str:
    """The champion plus what was learned, less what is `outdated`, with a router over both; returns its digest."""
    done = journal.finished("assemble")
    if done is not None:
        return str(done["version"])
    registry = house.store.registry
    parent = registry.version(champion)
    modules, deltas = [], []
    for lesson, part in learned.items():
        if part["place"] == "delta":
            deltas.append(DeltaRef(part["digest"]))
        else:
            modules.append(ModuleRef(part["digest"], ModuleKind.LORA, Audience.PRINCIPAL, lesson.owner))
    placed = {lesson: part["digest"] for lesson, part in learned.items() if part["place"] == "module"}
    router = _router_over(house, parent.router, placed, taught, settings, outdated)
    version = registry.put(assemble(parent, modules=modules, deltas=deltas, router=router, remove=outdated))
    registry.set_lineage(
        version,
        parent=champion,
        source_ids=sorted({s for lesson in learned for e in taught[lesson] for s in e.source_ids}),
        candidates={
            part["digest"]: {
                **part,
                "owner": lesson.owner,
                "exam": exam_of(house, taught[lesson]),
                "source_ids": sorted({s for episode in taught[lesson] for s in episode.source_ids}),
            }
            for lesson, part in learned.items()
        },
    )
    journal.checkpoint("assemble", {"version": version})
    return version


def _router_over(
    house: House,
    router: str,
    placed: Mapping[Lesson, str],
    taught: Mapping[Lesson, Sequence[Episode]],
    settings: NightSettings,
    outdated: Collection[str],
) -> str | None:
    """The parent's router plus what each new module learned (`placed`: its digest); None when there is none."""
    if not placed:
        return None
    with tempfile.TemporaryDirectory(prefix="tenure-router-") as folder:
        combined = (Router.load(house.store.objects.path(router)) if router else Router.empty()).without(outdated)
        matching = skill(MATCHING, house.model)
        if matching is not None:
            finding = skill(FINDING, house.model)
            finder = BiEncoder.load(finding) if finding is not None else None
            combined = combined.reading_with(CrossEncoder.load(matching), finder)
        training = [e for lesson in placed for e in taught[lesson] if not e.held_out]
        modules = {e.source_ids[0]: digest for lesson, digest in placed.items() for e in taught[lesson]}
        if combined.encoder is not None:
            for name, directory in combined.attachments.items():
                house.engine.add_attachment(name, directory)
            detector = read_detector(
                house.engine, house.model.chat, modules, training, encoder=combined.encoder, finder=combined.finder
            )
        else:
            detector = fit_detector(house.engine, house.model.chat, modules, training, seed=settings.seed)
        combined.with_detector(detector).save(Path(folder) / "router")
        return house.store.objects.put_directory(Path(folder) / "router")


def _too_little(curated: Curated, min_sources: int) -> str:
    found = f"{len(curated.sources)} new statements, {min_sources} are worth a night"
    return f"{found}; {curated.reason}" if curated.reason else found


def _end(
    journal: Journal,
    status: str,
    reason: str,
    version: str = "",
    verdict: Verdict | None = None,
    curated: Curated | None = None,
    episodes: Sequence[Episode] = (),
) -> NightResult:
    result = NightResult(
        night_id=journal.night_id,
        status=status,
        reason=reason,
        version=version,
        verdict=verdict,
        seconds=dict(journal.seconds),
        suite_seconds=dict(journal.suite_seconds),
        num_sources=len(curated.sources) if curated else 0,
        num_episodes=len(episodes),
    )
    journal.end(status, result.summary())
    return result
