"""Verdicts on whole exams: what passes, what is refused and by which check, what lacks evidence."""

from __future__ import annotations

import dataclasses

import pytest
from pupils import BASE, Pupil, base_pupil, general, ids, questions, silence, whole_exam

from tenure.config import GateConfig
from tenure.errors import ConfigError, GateError
from tenure.gates.examination import examine
from tenure.gates.suites import Suite
from tenure.gates.verdict import REQUIRED, judge
from tenure.types import Check, Outcome, Report, SuiteKind, Verdict

POLICY = GateConfig()


def held(suites: tuple[Suite, ...], version: Pupil, champion: Pupil | None = None) -> Report:
    base = base_pupil(suites)
    return examine(version, champion or base, base, suites)


def failed(verdict: Verdict) -> set[tuple[str, str]]:
    return {(c.suite, c.name) for c in verdict.checks if c.outcome is Outcome.FAILED}


def insufficient(verdict: Verdict) -> set[tuple[str, str]]:
    return {(c.suite, c.name) for c in verdict.checks if c.outcome is Outcome.INSUFFICIENT}


def check(verdict: Verdict, suite: str, name: str) -> Check:
    return next(c for c in verdict.checks if (c.suite, c.name) == (suite, name))


# ------------------------------------------------------------------------------------------ what passes, what doesn't


def test_a_harmless_improvement_passes() -> None:
    suites = whole_exam()
    verdict = judge(held(suites, Pupil("new", suites, everywhere=False)), POLICY)
    assert verdict.outcome is Outcome.PASSED, verdict.reasons
    assert (verdict.version, verdict.champion, verdict.anchor) == ("new", BASE, BASE)
    line = check(verdict, "general", "not worse than anchor")
    assert (line.num_items, line.delta, line.num_broken) == (600, 0.05, 0)
    assert line.power is not None and line.power > 0.99


def test_the_same_on_60_items_is_insufficient_evidence() -> None:
    suites = whole_exam(num_general=60)
    verdict = judge(held(suites, Pupil("new", suites, everywhere=False)), POLICY)
    assert verdict.outcome is Outcome.INSUFFICIENT
    assert insufficient(verdict) == {
        ("general", f"not worse than {side}") for side in ("champion", "anchor", "anchor, modules forced on")
    }
    assert "about 600 would do" in verdict.reasons[0]


@pytest.mark.parametrize("num_items", [0, 1, 7, 60, 599])
def test_too_few_items_never_pass(num_items: int) -> None:
    """However much better the version is on them."""
    suites = whole_exam(num_general=num_items)
    base = base_pupil(suites, wrong=ids("g", range(num_items)))
    assert judge(examine(Pupil("new", suites), base, base, suites), POLICY).outcome is Outcome.INSUFFICIENT


def test_a_forgetting_version_is_refused() -> None:
    suites = whole_exam()
    verdict = judge(held(suites, Pupil("new", suites, wrong=ids("g", range(60)))), POLICY)
    assert verdict.outcome is Outcome.FAILED
    assert failed(verdict) == {("general", "not worse than champion"), ("general", "not worse than anchor")}
    assert "60 broken, 0 fixed of 600" in verdict.reasons[0]


def test_a_loss_below_the_margin_that_is_not_ruled_out_is_refused() -> None:
    """27 of 600 lost: -.045, above -.05, but its lower bound isn't."""
    suites = whole_exam()
    verdict = judge(held(suites, Pupil("new", suites, wrong=ids("g", range(27)))), POLICY)
    assert "isn't ruled out" in check(verdict, "general", "not worse than anchor").reason
    assert verdict.outcome is Outcome.FAILED


def test_one_family_lost_whole_weighs_more_than_the_same_loss_scattered() -> None:
    suites = whole_exam()
    scattered = judge(held(suites, Pupil("new", suites, wrong=ids("g", range(15)))), POLICY)
    clustered = judge(held(suites, Pupil("new", suites, wrong=ids("g", range(0, 450, 30)))), POLICY)
    assert scattered.outcome is Outcome.PASSED, scattered.reasons
    assert clustered.outcome is not Outcome.PASSED
    line = check(clustered, "general", "not worse than anchor")
    assert line.lower is not None and line.lower < -0.05


def test_losing_what_the_champion_had_gained_is_refused_though_the_anchor_never_had_it() -> None:
    suites = whole_exam()
    missing = ids("g", range(60))
    base = base_pupil(suites, wrong=missing)
    champion = Pupil("champion", suites, wrong=ids("told", range(48)))
    verdict = judge(examine(Pupil("new", suites, wrong=missing), champion, base, suites), POLICY)
    assert failed(verdict) == {("general", "not worse than champion")}


def nights_of_slow_loss(*, with_anchor: bool) -> int:
    """Each night's version loses 9 items more than the champion; how many are lost when a night is first refused."""
    suites = whole_exam()
    base = base_pupil(suites)
    champion, lost = base, 0
    for night in range(1, 12):
        untold = ids("told", range(0, 48, 2)) if night % 2 else ids("told", range(1, 48, 2))
        version = Pupil(f"v{night}", suites, wrong=ids("g", range(lost + 9)) | untold)
        if night > 1:  # something else is told every night, so that acquisition isn't what refuses
            champion = Pupil(champion.digest, suites, wrong=ids("g", range(lost)) | ids("told", range(48)))
        report = examine(version, champion, base if with_anchor else champion, suites)
        policy = dataclasses.replace(POLICY, min_acquisition=0.4)
        if judge(report, policy).outcome is not Outcome.PASSED:
            return lost
        champion, lost = version, lost + 9
    return lost


def test_many_passes_do_not_add_up() -> None:
    """Every night is harmless against the night before; the pinned anchor stops them before delta is lost in sum."""
    assert 0 < nights_of_slow_loss(with_anchor=True) <= 0.05 * 600
    assert nights_of_slow_loss(with_anchor=False) > 0.10 * 600


def test_later_nights_need_more_evidence() -> None:
    suites = whole_exam()
    report = held(suites, Pupil("new", suites, wrong=ids("g", range(15))))
    assert judge(report, POLICY, night_index=1).outcome is Outcome.PASSED
    late = judge(report, POLICY, night_index=50)
    assert late.outcome is not Outcome.PASSED
    assert late.alpha < judge(report, POLICY).alpha < POLICY.alpha


def test_harm_with_the_modules_forced_on_is_refused() -> None:
    suites = whole_exam()
    version = Pupil("new", suites, everywhere=False, wrong_forced=ids("g", range(120)))
    assert failed(judge(held(suites, version), POLICY)) == {("general", "not worse than anchor, modules forced on")}
    milder = Pupil("new", suites, everywhere=False, wrong_forced=ids("g", range(48)))
    assert judge(held(suites, milder), POLICY).outcome is Outcome.PASSED


def test_scores_that_are_no_numbers_are_refused() -> None:
    suites = whole_exam()
    assert judge(held(suites, Pupil("new", suites, broken_numbers=True)), POLICY).outcome is Outcome.FAILED


# ------------------------------------------------------------------------------------------ silence and drift


def test_changed_near_misses_are_refused() -> None:
    suites = whole_exam()
    many = Pupil("new", suites, everywhere=False, changed=ids("near-miss", range(7)))
    few = Pupil("new", suites, everywhere=False, changed=ids("near-miss", range(6)))
    refused, passed = judge(held(suites, many), POLICY), judge(held(suites, few), POLICY)
    assert failed(refused) == {("near-miss", "answers changed")}
    assert passed.outcome is Outcome.PASSED
    line = check(passed, "near-miss", "answers changed")
    assert line.value == pytest.approx(0.02)
    assert line.upper is not None and line.upper > 0.02
    assert "other weights used on 0.020" in line.reason


def test_few_near_misses_are_insufficient_evidence() -> None:
    suites = whole_exam(num_near_miss=100)
    verdict = judge(held(suites, Pupil("new", suites, everywhere=False)), POLICY)
    assert insufficient(verdict) == {("near-miss", "answers changed")}
    assert "149 can" in check(verdict, "near-miss", "answers changed").reason


@pytest.mark.parametrize("kl", [0.06, float("nan"), float("inf")])
def test_drift_is_refused(kl: float) -> None:
    suites = whole_exam()
    assert failed(judge(held(suites, Pupil("new", suites, kl=kl)), POLICY)) == {("drift", "drift from base")}
    assert judge(held(suites, Pupil("new", suites, kl=0.04)), POLICY).outcome is Outcome.PASSED


def test_drift_on_few_prompts_is_insufficient_evidence() -> None:
    suites = (*whole_exam()[:3], silence("drift", 12, SuiteKind.DRIFT))
    assert insufficient(judge(held(suites, Pupil("new", suites)), POLICY)) == {("drift", "drift from base")}


# ------------------------------------------------------------------------------------------ learning and keeping


def test_too_little_learned_is_refused() -> None:
    suites = whole_exam()
    verdict = judge(held(suites, Pupil("new", suites, wrong=ids("told", range(20)))), POLICY)
    assert failed(verdict) == {("told", "learned")}
    assert "28 of 48 right" in verdict.reasons[0]


def test_nothing_learned_beyond_the_champion_is_refused() -> None:
    suites = whole_exam()
    champion = Pupil("champion", suites)
    verdict = judge(held(suites, Pupil("new", suites), champion), POLICY)
    assert failed(verdict) == {("told", "better than champion")}


def test_four_questions_cannot_show_a_gain_five_can() -> None:
    for n, outcome in ((4, Outcome.INSUFFICIENT), (5, Outcome.PASSED)):
        suites = (questions("told", n, SuiteKind.ACQUISITION), *whole_exam()[1:])
        assert judge(held(suites, Pupil("new", suites)), POLICY).outcome is outcome


@pytest.mark.parametrize("kind", sorted(REQUIRED))
def test_what_was_not_asked_is_insufficient_evidence(kind: SuiteKind) -> None:
    suites = tuple(s for s in whole_exam() if s.kind is not kind)
    base = base_pupil(suites)
    verdict = judge(examine(Pupil("new", suites), base, base, suites, forced_suites=()), POLICY)
    assert verdict.outcome is Outcome.INSUFFICIENT
    assert insufficient(verdict) == {(kind.value, "asked")}


def test_nothing_asked_and_nothing_required_is_no_pass() -> None:
    empty = Report("v", "c", "a", (), "bf16", 0.0)
    assert judge(empty, POLICY, required=()).outcome is Outcome.INSUFFICIENT


def test_a_version_that_only_drops_something_needs_no_acquisition() -> None:
    suites = whole_exam()[1:]
    report = held(suites, Pupil("less", suites))
    assert judge(report, POLICY, required=REQUIRED - {SuiteKind.ACQUISITION}).outcome is Outcome.PASSED


def with_retention(n: int) -> tuple[Suite, ...]:
    return (*whole_exam(), questions("kept", n, SuiteKind.RETENTION))


def test_forgetting_earlier_learning_is_refused() -> None:
    suites = with_retention(100)
    champion = Pupil("champion", suites, wrong=ids("told", range(48)))
    version = Pupil("new", suites, wrong=ids("kept", range(8)))
    assert failed(judge(held(suites, version, champion), POLICY)) == {("kept", "not worse than champion")}
    assert judge(held(suites, Pupil("new", suites), champion), POLICY).outcome is Outcome.PASSED


def test_little_earlier_learning_does_not_hold_a_night_up() -> None:
    suites = with_retention(20)
    champion = Pupil("champion", suites, wrong=ids("told", range(48)))
    verdict = judge(held(suites, Pupil("new", suites), champion), POLICY)
    assert insufficient(verdict) == {("kept", "not worse than champion")}
    assert verdict.outcome is Outcome.PASSED
    assert any("reported only" in reason for reason in verdict.reasons)


def test_slow_loss_of_earlier_learning_ends_at_the_share_it_was_admitted_with() -> None:
    """One question of 20 a night never exceeds the margin; below 60 % it is refused all the same."""
    suites = with_retention(20)
    lost = 0
    while lost < 20:
        champion = Pupil("champion", suites, wrong=ids("told", range(48)) | ids("kept", range(lost)))
        version = Pupil("new", suites, wrong=ids("kept", range(lost + 1)))
        verdict = judge(held(suites, version, champion), POLICY)
        if verdict.outcome is not Outcome.PASSED:
            break
        lost += 1
    assert lost == 8
    assert failed(verdict) == {("kept", "kept")}


# ------------------------------------------------------------------------------------------ the user's own sets


def with_golden(n: int, **terms: object) -> tuple[Suite, ...]:
    return (*whole_exam(), questions("mine", n, SuiteKind.GOLDEN, num_families=n, **terms))


def test_a_golden_set_that_is_broken_is_refused_however_small() -> None:
    suites = with_golden(20)
    verdict = judge(held(suites, Pupil("new", suites, wrong=ids("mine", range(5)))), POLICY)
    assert failed(verdict) == {("mine", "not worse than champion"), ("mine", "not worse than anchor")}


def test_a_small_golden_set_is_reported_and_decides_nothing_unless_required() -> None:
    for required, outcome in ((False, Outcome.PASSED), (True, Outcome.INSUFFICIENT)):
        suites = with_golden(20, required=required)
        verdict = judge(held(suites, Pupil("new", suites)), POLICY)
        assert verdict.outcome is outcome
        assert ("mine", "not worse than anchor") in insufficient(verdict)
    suites = with_golden(200, required=True)
    assert judge(held(suites, Pupil("new", suites)), POLICY).outcome is Outcome.PASSED


def test_a_golden_set_with_a_count_rule_counts() -> None:
    for most, outcome in ((0, Outcome.FAILED), (1, Outcome.PASSED)):
        suites = with_golden(20, max_broken=most)
        assert judge(held(suites, Pupil("new", suites, wrong=ids("mine", [3]))), POLICY).outcome is outcome


def test_a_golden_set_has_its_own_margin() -> None:
    for delta, outcome in ((0.02, Outcome.FAILED), (0.2, Outcome.PASSED)):
        suites = with_golden(100, delta=delta)
        assert judge(held(suites, Pupil("new", suites, wrong=ids("mine", range(4)))), POLICY).outcome is outcome


# ------------------------------------------------------------------------------------------ form


def test_reports_that_are_not_paired_are_not_judged() -> None:
    suites = (general(60),)
    report = held(suites, Pupil("new", suites))
    suite = report.suites[0]
    shuffled = dataclasses.replace(suite, anchor=suite.anchor[::-1])
    with pytest.raises(GateError, match=r"general.*anchor"):
        judge(dataclasses.replace(report, suites=(shuffled,)), POLICY)
    with pytest.raises(GateError, match="champion"):
        judge(dataclasses.replace(report, suites=(dataclasses.replace(suite, champion=()),)), POLICY)


def test_the_verdict_depends_on_nothing_but_its_arguments() -> None:
    suites = whole_exam()
    report = held(suites, Pupil("new", suites, wrong=ids("g", range(20))))
    assert judge(report, POLICY) == judge(report, POLICY)


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", 0.0), ("alpha", 0.5), ("delta", -0.1), ("forced_delta", 1.0), ("max_near_miss", 2.0)]
)
def test_a_policy_that_no_test_can_be_held_by(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"gate\.{name} = "):
        judge(Report("v", "c", "a", (), "bf16", 0.0), dataclasses.replace(POLICY, **{name: value}))


def test_a_margin_of_nothing_asks_for_a_gain() -> None:
    suites = whole_exam()
    strict = dataclasses.replace(POLICY, delta=0.0)
    unchanged = judge(held(suites, Pupil("new", suites)), strict)
    assert unchanged.outcome is Outcome.INSUFFICIENT
    assert "no number can" in unchanged.reasons[0]
    base = base_pupil(suites, wrong=ids("g", range(60)))
    assert judge(examine(Pupil("new", suites), base, base, suites), strict).outcome is Outcome.PASSED
