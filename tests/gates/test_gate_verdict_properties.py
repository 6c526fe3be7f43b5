"""The verdict never improves when the version gets worse."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenure.config import GateConfig
from tenure.gates.verdict import judge
from tenure.types import ItemResult, Outcome, Report, SuiteKind, SuiteReport

POLICY = GateConfig(delta=0.1, min_items=80, max_near_miss=0.05, max_drift=0.1, forced_delta=0.2)
N = 100
RANK = {Outcome.PASSED: 1, Outcome.INSUFFICIENT: 0, Outcome.FAILED: 0}
few = st.integers(0, 18)
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def results(rights: list[bool], kls: list[float] | None = None) -> tuple[ItemResult, ...]:
    kls = kls or [0.0] * len(rights)
    return tuple(
        ItemResult(f"i{i}", f"family{i % 20}", right, "", kl=kl)
        for i, (right, kl) in enumerate(zip(rights, kls, strict=True))
    )


@st.composite
def paired(draw: st.DrawFn, n: int) -> tuple[list[bool], list[bool]]:
    """Version and reference: mostly both right, some broken, some fixed, in any places."""
    order = draw(st.permutations(range(n)))
    num_fixed, num_broken, num_neither = draw(few), draw(few), draw(few)
    version, reference = [True] * n, [True] * n
    for place, i in enumerate(order):
        version[i] = not num_fixed <= place < num_fixed + num_broken + num_neither
        reference[i] = not (place < num_fixed or num_fixed + num_broken <= place < num_fixed + num_broken + num_neither)
    return version, reference


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """A whole exam near the thresholds; one champion is the anchor, the other isn't."""
    general, champion = draw(paired(N))
    anchor = draw(paired(N))[1]
    forced = draw(paired(N))[0]
    kept, kept_before = draw(paired(30))
    mine, mine_before = draw(paired(20))
    told = [i >= draw(st.integers(0, 5)) for i in range(12)]
    told_before = [i >= draw(st.integers(0, 12)) for i in range(12)]
    silent = [i >= draw(st.integers(0, 8)) for i in range(N)]
    kls = draw(st.lists(st.floats(0, 0.2), min_size=40, max_size=40))
    kind = SuiteKind
    suites = (
        SuiteReport("told", results(told), results(told_before), (), kind=kind.ACQUISITION),
        SuiteReport("kept", results(kept), results(kept_before), (), kind=kind.RETENTION),
        SuiteReport("general", results(general), results(champion), results(anchor), results(forced), kind.GENERAL),
        SuiteReport("near-miss", results(silent), (), results([True] * N), kind=kind.NEAR_MISS),
        SuiteReport("drift", results([True] * 40, kls), (), (), kind=kind.DRIFT),
        SuiteReport("mine", results(mine), results(mine_before), results(mine_before), kind=kind.GOLDEN),
    )
    return Report("new", "champion", "anchor", suites, "bf16", 0.0)


def worse(report: Report, suite_name: str, place: int, *, forced: bool = False) -> Report:
    """The report with one more item wrong (or drifting further)."""
    suites = []
    for suite in report.suites:
        if suite.suite == suite_name:
            side = "forced" if forced else "version"
            items = list(getattr(suite, side))
            item = items[place % len(items)]
            items[place % len(items)] = dataclasses.replace(item, correct=False, kl=item.kl + 0.5)
            suite = dataclasses.replace(suite, **{side: tuple(items)})
        suites.append(suite)
    return dataclasses.replace(report, suites=tuple(suites))


@quick
@given(
    report=reports(),
    name=st.sampled_from(["told", "kept", "general", "near-miss", "drift", "mine"]),
    place=st.integers(0, N - 1),
    night=st.integers(1, 40),
)
def test_one_more_item_broken_never_turns_a_refusal_into_a_pass(
    report: Report, name: str, place: int, night: int
) -> None:
    before = judge(report, POLICY, night_index=night)
    forced = name == "general" and place % 2 == 0
    after = judge(worse(report, name, place, forced=forced), POLICY, night_index=night)
    assert RANK[after.outcome] <= RANK[before.outcome]
    for old, new in zip(before.checks, after.checks, strict=True):
        assert RANK[new.outcome] <= RANK[old.outcome], (old, new)


@quick
@given(report=reports(), night=st.integers(1, 40))
def test_a_verdict_is_no_better_than_its_worst_check(report: Report, night: int) -> None:
    verdict = judge(report, POLICY, night_index=night)
    required = {check.outcome for check in verdict.checks if check.required}
    if Outcome.FAILED in {check.outcome for check in verdict.checks}:
        assert verdict.outcome is Outcome.FAILED
    elif Outcome.INSUFFICIENT in required:
        assert verdict.outcome is Outcome.INSUFFICIENT
    else:
        assert verdict.outcome is Outcome.PASSED
    assert len(verdict.reasons) >= len(verdict.checks)


@quick
@given(report=reports(), night=st.integers(1, 39))
def test_a_later_night_is_never_easier(report: Report, night: int) -> None:
    early, late = judge(report, POLICY, night_index=night), judge(report, POLICY, night_index=night + 1)
    assert RANK[late.outcome] <= RANK[early.outcome]


@quick
@given(report=reports(), num_items=st.integers(1, POLICY.min_items - 1))
def test_below_the_minimum_no_exam_passes(report: Report, num_items: int) -> None:
    suites = tuple(
        dataclasses.replace(
            suite,
            version=suite.version[:num_items],
            champion=suite.champion[:num_items],
            anchor=suite.anchor[:num_items],
            forced=suite.forced[:num_items],
        )
        if suite.kind is SuiteKind.GENERAL
        else suite
        for suite in report.suites
    )
    assert judge(dataclasses.replace(report, suites=suites), POLICY).outcome is not Outcome.PASSED
