"""Holding the exam: asks version, champion and anchor, marks, and pairs the results item by item.

Lives here: who is asked what, the cache's use, marking by kind of item. Knows no threshold: `verdict.judge` decides.
Called by the night, `tenure gate` and the benchmarks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from tenure.errors import GateError
from tenure.gates.answerer import Answered, Answerer, Drifted, Scored
from tenure.gates.cache import MemoryCache, ResultCache, Value
from tenure.gates.marking import is_right
from tenure.gates.suites import Suite, item_digest
from tenure.store.digests import canonical_json, digest_bytes
from tenure.types import ChoiceItem, Item, ItemResult, QuestionItem, Report, SilenceItem, SuiteKind, SuiteReport

Progress = Callable[[str, int, int], None]
Results = tuple[ItemResult, ...]

# Whom a version is compared with, by kind of suite; nobody else is asked.
SIDES: Mapping[SuiteKind, frozenset[str]] = {
    SuiteKind.ACQUISITION: frozenset({"champion"}),
    SuiteKind.RETENTION: frozenset({"champion"}),
    SuiteKind.GENERAL: frozenset({"champion", "anchor"}),
    SuiteKind.NEAR_MISS: frozenset({"anchor"}),
    SuiteKind.DRIFT: frozenset(),
    SuiteKind.GOLDEN: frozenset({"champion", "anchor"}),
}
ITEMS_AT_ONCE = 128  # results are kept and progress told after so many
BROKEN_KL = 1e3  # nats a token that a drift which isn't a number counts as


@dataclass(frozen=True, slots=True)
class _Side:
    """One answerer's way of sitting the exam."""

    answerer: Answerer
    cache: ResultCache
    tell: Callable[[int], None]
    forced: bool = False
    among: str = ""  # names the list that the questions are asked among, where that may move the answer

    def sit(self, suite: Suite, reference: Results = ()) -> Results:
        """Results in the order of the items. Silence items are marked against `reference`, the anchor's results."""
        if not suite.items:
            return ()
        effectives = self.answerer.route(suite.items, forced=self.forced)
        _same_length("route", effectives, suite.items)
        mode = "drift" if suite.kind is SuiteKind.DRIFT else "answer"
        questions = [_question_digest(item, mode, self.among) for item in suite.items]
        values = self._values(suite.items, questions, effectives, mode)
        texts = {result.item_id: result.answer for result in reference}
        return tuple(
            _marked(item, value, effective, mode, texts.get(item.id))
            for item, value, effective in zip(suite.items, values, effectives, strict=True)
        )

    def _values(
        self, items: Sequence[Item], questions: Sequence[str], effectives: Sequence[str], mode: str
    ) -> list[Value]:
        precision = self.answerer.precision
        missing = [i for i in range(len(items)) if questions[i] not in self.cache.of(effectives[i], precision)]
        self.tell(len(items) - len(missing))
        by_call: dict[bool, list[int]] = {True: [], False: []}
        for i in missing:
            by_call[isinstance(items[i], ChoiceItem)].append(i)
        for places in by_call.values():
            for start in range(0, len(places), ITEMS_AT_ONCE):
                chunk = places[start : start + ITEMS_AT_ONCE]
                answers = self._ask([items[i] for i in chunk], mode)
                self._keep(chunk, answers, questions, effectives)
                self.tell(len(chunk))
        return [self.cache.of(e, precision)[q] for e, q in zip(effectives, questions, strict=True)]

    def _ask(self, items: Sequence[Item], mode: str) -> Sequence[Answered | Scored | Drifted]:
        answers: Sequence[Answered | Scored | Drifted]
        choices = [item for item in items if isinstance(item, ChoiceItem)]
        if choices:
            answers = self.answerer.score(choices, forced=self.forced)
        else:
            prompts = [item.messages for item in items if not isinstance(item, ChoiceItem)]
            if mode == "drift":
                answers = self.answerer.drift(prompts)
            else:
                answers = self.answerer.answer(prompts, forced=self.forced)
        _same_length("score" if choices else mode, answers, items)
        return answers

    def _keep(
        self,
        chunk: Sequence[int],
        answers: Sequence[Answered | Scored | Drifted],
        questions: Sequence[str],
        effectives: Sequence[str],
    ) -> None:
        new: dict[str, dict[str, Value]] = {}
        for i, answer in zip(chunk, answers, strict=True):
            if answer.effective != effectives[i]:
                raise GateError(
                    f"item routed to {effectives[i][:12]} was answered by {answer.effective[:12]}; "
                    "route() and the answers of an Answerer must agree"
                )
            new.setdefault(effectives[i], {})[questions[i]] = _plain(answer)
        for effective, values in new.items():
            self.cache.keep(effective, self.answerer.precision, values)


def examine(
    version: Answerer,
    champion: Answerer,
    anchor: Answerer,
    suites: Sequence[Suite],
    *,
    forced_suites: Collection[str] = ("general",),
    refused: Callable[[SuiteReport], bool] | None = None,
    cache: ResultCache | None = None,
    progress: Progress | None = None,
) -> Report:
    """Ask all who must be asked and pair their results.

    `forced_suites` names the suites that are asked once more with the version's modules on for every request. A side
    with another's digest isn't asked again, nor is anything that the cache knows. After a suite on which the version is
    `refused` nothing more is asked: the reports of the other suites are empty. `progress(stage, done, total)` counts
    item results over the whole exam.

    Raises GateError for two suites of one name, a suite named in `forced_suites` that isn't there, sides at different
    precisions, or an answerer that breaks its contract.
    """
    started = time.monotonic()
    _check_terms((version, champion, anchor), suites, forced_suites)
    kept = MemoryCache() if cache is None else cache
    counter = _Counter(suites, forced_suites, progress)
    sides = {"version": version, "champion": champion, "anchor": anchor}
    reports: list[SuiteReport] = []
    over = False
    for suite in suites:
        if over:
            reports.append(SuiteReport(suite.name, (), (), (), kind=suite.kind, required=suite.required))
            continue
        reports.append(_held(suite, sides, kept, counter, forced=suite.name in forced_suites))
        over = refused is not None and bool(reports[-1].version) and refused(reports[-1])
    seconds = time.monotonic() - started
    return Report(version.digest, champion.digest, anchor.digest, tuple(reports), version.precision, seconds)


def _held(
    suite: Suite, sides: Mapping[str, Answerer], cache: ResultCache, counter: _Counter, *, forced: bool
) -> SuiteReport:
    began = time.monotonic()
    if suite.kind is SuiteKind.NEAR_MISS:
        silent = _held_silence(suite, sides["version"], sides["anchor"], cache, counter)
        return replace(silent, seconds=time.monotonic() - began)
    sat: dict[str, Results] = {}  # by digest: the champion may be the anchor
    results: dict[str, Results] = {"champion": (), "anchor": ()}
    for name in ("anchor", "champion", "version"):  # the anchor first: silence is marked against it
        if name == "version" or name in SIDES[suite.kind]:
            answerer = sides[name]
            if answerer.digest in sat:
                counter.of(suite.name)(len(suite.items))
            else:
                sitting = _Side(answerer, cache, counter.of(suite.name))
                sat[answerer.digest] = sitting.sit(suite, results["anchor"])
            results[name] = sat[answerer.digest]
    seconds = time.monotonic() - began
    if forced:
        sitting = _Side(sides["version"], cache, counter.of(f"{suite.name}, forced"), forced=True)
        results["forced"] = sitting.sit(suite, results["anchor"])
    return SuiteReport(
        suite=suite.name,
        **results,
        kind=suite.kind,
        required=suite.required,
        delta=suite.delta,
        max_broken=suite.max_broken,
        seconds=seconds,
        forced_seconds=time.monotonic() - began - seconds if forced else 0.0,
    )


def _held_silence(
    suite: Suite, version: Answerer, anchor: Answerer, cache: ResultCache, counter: _Counter
) -> SuiteReport:
    """Ask both sides where the version would answer with other weights than the anchor, and nobody elsewhere.

    The same weights give the same answer, so most prompts cost a routing each. Both sides are asked the same list, in
    one batch shape: on small models the shape alone can move a greedy answer.
    """
    sides = (version, anchor)
    routes = [side.route(suite.items) for side in sides]
    for found in routes:
        _same_length("route", found, suite.items)
    moved = [i for i, (here, there) in enumerate(zip(*routes, strict=True)) if here != there]
    asked = replace(suite, items=tuple(suite.items[i] for i in moved))
    among = digest_bytes(canonical_json([item_digest(item) for item in asked.items]))
    tell = counter.of(suite.name)
    answers = dict(zip(moved, _Side(anchor, cache, tell, among=among).sit(asked), strict=True))
    reference = tuple(answers.values())
    marked = dict(zip(moved, _Side(version, cache, tell, among=among).sit(asked, reference), strict=True))
    tell(2 * (len(suite.items) - len(moved)))

    def whole(results: Mapping[int, ItemResult], effectives: Sequence[str]) -> Results:
        return tuple(
            results.get(i) or ItemResult(item.id, item.family, True, "", effective=effectives[i])
            for i, item in enumerate(suite.items)
        )

    return SuiteReport(
        suite=suite.name,
        version=whole(marked, routes[0]),
        champion=(),
        anchor=whole(answers, routes[1]),
        kind=suite.kind,
        required=suite.required,
        delta=suite.delta,
        max_broken=suite.max_broken,
    )


def activation_rate(results: Results, reference: Results) -> float:
    """Share of items that other weights answered than the reference's (0 for no items)."""
    pairs = list(zip(results, reference, strict=True))
    return sum(mine.effective != theirs.effective for mine, theirs in pairs) / len(pairs) if pairs else 0.0


class _Counter:
    """Counts item results over the whole exam and tells whoever watches."""

    def __init__(self, suites: Sequence[Suite], forced_suites: Collection[str], progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0
        self._total = sum(len(s.items) * (1 + len(SIDES[s.kind]) + (s.name in forced_suites)) for s in suites)

    def of(self, stage: str) -> Callable[[int], None]:
        def tell(num_items: int) -> None:
            self._done += num_items
            if self._progress:
                self._progress(stage, self._done, self._total)

        return tell


def _check_terms(sides: Sequence[Answerer], suites: Sequence[Suite], forced_suites: Collection[str]) -> None:
    names = [suite.name for suite in suites]
    for name in names:
        if names.count(name) > 1:
            raise GateError(f"two suites are named {name!r}; rename one")
    for name in forced_suites:
        if name not in names:
            raise GateError(f"suite {name!r} should be asked with modules forced on, but the suites are {names}")
    precisions = {side.precision for side in sides}
    if len(precisions) > 1:
        raise GateError(f"sides are served at {sorted(precisions)}; compare at one precision, the one that is served")
    for suite in suites:
        if suite.kind is SuiteKind.DRIFT and any(isinstance(item, ChoiceItem) for item in suite.items):
            raise GateError(
                f"suite {suite.name!r} measures drift and holds a choice item; drift needs prompts in chat form"
            )


def _same_length(call: str, answers: Sequence[object], items: Sequence[Item]) -> None:
    if len(answers) != len(items):
        raise GateError(
            f"{call}() gave {len(answers)} results for {len(items)} items; one each, in order, is the contract"
        )


def _question_digest(item: Item, mode: str, among: str) -> str:
    call = "score" if isinstance(item, ChoiceItem) else mode
    return digest_bytes(canonical_json([call, item_digest(item), *([among] if among else [])]))


def _plain(answer: Answered | Scored | Drifted) -> Value:
    if isinstance(answer, Answered):
        return answer.text
    if isinstance(answer, Drifted):
        return answer.kl
    return list(answer.log_likelihoods)


def _marked(item: Item, value: Value, effective: str, mode: str, reference: str | None) -> ItemResult:
    if isinstance(item, ChoiceItem):
        return _marked_choice(item, cast("list[float]", value), effective)
    if mode == "drift":
        kl = float(cast("float", value))
        return ItemResult(
            item.id, item.family, True, "", effective=effective, kl=kl if math.isfinite(kl) else BROKEN_KL
        )
    text = cast("str", value)
    if isinstance(item, QuestionItem):
        return ItemResult(item.id, item.family, is_right(text, item.accepted, item.rejected), text, effective=effective)
    assert isinstance(item, SilenceItem)
    same = reference is None or text.strip() == reference.strip()  # without a reference it is the anchor itself
    return ItemResult(item.id, item.family, same, text, effective=effective)


def _marked_choice(item: ChoiceItem, scores: Sequence[float], effective: str) -> ItemResult:
    """Right only by a margin above zero: a tie is wrong, and so are scores that aren't numbers (a broken version)."""
    if len(scores) != len(item.choices):
        raise GateError(f"score() gave {len(scores)} numbers for the {len(item.choices)} choices of item {item.id!r}")
    if not all(math.isfinite(score) for score in scores):
        return ItemResult(item.id, item.family, False, "not a number", effective=effective)
    best = max(range(len(scores)), key=scores.__getitem__)
    margin = scores[item.answer] - max(score for i, score in enumerate(scores) if i != item.answer)
    return ItemResult(item.id, item.family, margin > 0, item.choices[best].strip(), margin=margin, effective=effective)
