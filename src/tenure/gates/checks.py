"""The checks that a verdict is made of: one function a kind of suite, each from paired results to lines of a verdict.

Lives here: what each kind of suite must show, and the words. Knows no answerer and no item text. Called by `verdict`
through the list CHECKS: a further check (poison, privacy) is one more function and one more line in it.

All checks must pass for a version to pass, so the chance that one which is unacceptable in any single respect gets
through is at most the alpha of that one test (an intersection-union test): alpha isn't divided among checks. It is
divided among nights (`statistics.alpha_of_night`), for the tests that guard against loss. Whether something was learned
is tested at the undivided alpha: an error there gains nothing but harms nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tenure.config import GateConfig
from tenure.errors import GateError
from tenure.gates.examination import activation_rate
from tenure.gates.statistics import (
    cluster_bootstrap_bounds,
    discordant,
    items_for_rate,
    needed_items,
    paired_bounds,
    power,
    rate_bounds,
    sign_test,
)
from tenure.types import Check, ItemResult, Outcome, Report, SuiteKind, SuiteReport

WANTED_POWER = 0.8
MIN_DRIFT_PROMPTS = 30
FINEST_RATE = 0.01  # a near-miss suite need not resolve rates below this
ROUNDING = 1e-12  # 1/20 lost isn't more than a margin of .05


@dataclass(frozen=True, slots=True)
class Standard:
    """What the checks hold a version to: the policy, this night's alpha, and the kinds of suite it must sit."""

    policy: GateConfig
    alpha: float
    required: frozenset[SuiteKind]


def check_acquisition(suite: SuiteReport, standard: Standard) -> Iterator[Check]:
    """The night's held-out questions: enough right, and more than the champion has right."""
    n, alpha = len(suite.version), standard.policy.alpha
    right = [r.correct for r in suite.version]
    share, wanted = sum(right) / n, standard.policy.min_acquisition
    lower = min(
        rate_bounds(sum(right), n, alpha)[0],
        cluster_bootstrap_bounds(right, [r.family for r in suite.version], alpha)[0],
    )
    told = f"{sum(right)} of {n} right closed book"
    if share < wanted - ROUNDING:
        outcome, reason = Outcome.FAILED, f"{told}, {share:.3f}; at least {wanted:g} is asked for"
    else:
        outcome, reason = Outcome.PASSED, f"{told}, {share:.3f}"
    yield Check(suite.suite, "learned", outcome, share, wanted, n, lower=lower, reason=reason)
    yield _better_than_champion(suite, alpha)


def _better_than_champion(suite: SuiteReport, alpha: float) -> Check:
    n = len(suite.version)
    fixed, broken = discordant(_right(suite.version), _right(suite.champion))
    p_value = sign_test(fixed, broken)
    told = f"{fixed} of {n} right that the champion has wrong, {broken} the reverse (p = {p_value:.2g})"
    if p_value <= alpha:
        outcome, reason = Outcome.PASSED, told
    elif fixed <= broken:
        outcome, reason = Outcome.FAILED, f"{told}: no better than the champion"
    else:
        least = items_for_rate(0.5, alpha)
        outcome = Outcome.INSUFFICIENT
        reason = f"{told}: too few to show a gain; at least {least} more right than the champion are needed"
    lower, upper = paired_bounds(_right(suite.version), _right(suite.champion), _families(suite.version), alpha)
    return Check(
        suite.suite,
        "better than champion",
        outcome,
        (fixed - broken) / n,
        0.0,
        n,
        lower=lower,
        upper=upper,
        num_fixed=fixed,
        num_broken=broken,
        reason=reason,
    )


def check_retention(suite: SuiteReport, standard: Standard) -> Iterator[Check]:
    """Earlier learning: not worse than the champion, and never below the share that it was admitted with.

    The second line holds where many nights each lose less than the margin against the champion before them.
    """
    required = _required(suite, standard)
    delta = suite.delta or standard.policy.delta
    yield _not_worse(suite, "champion", suite.version, suite.champion, delta, 1, required, standard)
    n, floor = len(suite.version), standard.policy.min_acquisition
    share = sum(_right(suite.version)) / n
    before = sum(_right(suite.champion)) / n
    lost = share < floor - ROUNDING and share < before
    outcome = Outcome.FAILED if lost else Outcome.PASSED
    reason = f"{share:.3f} of {n} still right (champion {before:.3f}); {floor:g} is the least"
    yield Check(suite.suite, "kept", outcome, share, floor, n, reason=reason, required=required)


def check_general(suite: SuiteReport, standard: Standard) -> Iterator[Check]:
    """General ability: not worse than champion and anchor as served, nor than the anchor with the modules forced on."""
    policy = standard.policy
    delta = suite.delta or policy.delta
    for name, reference in (("champion", suite.champion), ("anchor", suite.anchor)):
        yield _not_worse(suite, name, suite.version, reference, delta, policy.min_items, True, standard)
    if suite.forced:
        yield _not_worse(
            suite,
            "anchor, modules forced on",
            suite.forced,
            suite.anchor,
            policy.forced_delta,
            policy.min_items,
            True,
            standard,
        )


def check_golden(suite: SuiteReport, standard: Standard) -> Iterator[Check]:
    """The user's own set: its count rule when it has `max_broken`, else not worse than champion and anchor.

    A loss beyond the margin fails whatever the size; a small set that shows no such loss is reported, and holds nothing
    up unless it is marked as required.
    """
    required = _required(suite, standard)
    for name, reference in (("champion", suite.champion), ("anchor", suite.anchor)):
        if suite.max_broken is None:
            delta = suite.delta or standard.policy.delta
            yield _not_worse(suite, name, suite.version, reference, delta, 1, required, standard)
        else:
            yield _few_broken(suite, name, reference, suite.max_broken, required)


def _few_broken(suite: SuiteReport, name: str, reference: Sequence[ItemResult], most: int, required: bool) -> Check:
    n = len(suite.version)
    fixed, broken = discordant(_right(suite.version), _right(reference))
    outcome = Outcome.PASSED if broken <= most else Outcome.FAILED
    reason = f"{broken} of {n} broken, at most {most} may be; a count over these very items, no estimate beyond them"
    return Check(
        suite.suite,
        f"broken against {name}",
        outcome,
        float(broken),
        float(most),
        n,
        num_fixed=fixed,
        num_broken=broken,
        reason=reason,
        required=required,
    )


def check_near_miss(suite: SuiteReport, standard: Standard) -> Iterator[Check]:
    """Prompts on which the answer must stay the anchor's: the share answered otherwise."""
    n, most = len(suite.version), standard.policy.max_near_miss
    changed = sum(not same for same in _right(suite.version))
    lower, upper = rate_bounds(changed, n, standard.policy.alpha)
    least = items_for_rate(max(most, FINEST_RATE), standard.policy.alpha)
    active = activation_rate(suite.version, suite.anchor)
    told = (
        f"{changed} of {n} answered otherwise than the anchor (at most {upper:.3f}), other weights used on {active:.3f}"
    )
    if changed / n > most + ROUNDING:
        outcome, reason = Outcome.FAILED, f"{told}; {most:g} is allowed"
    elif n < least:
        outcome = Outcome.INSUFFICIENT
        reason = f"{told}; {n} prompts can't show a rate of {max(most, FINEST_RATE):g}, {least} can"
    else:
        outcome, reason = Outcome.PASSED, told
    yield Check(suite.suite, "answers changed", outcome, changed / n, most, n, lower=lower, upper=upper, reason=reason)


def check_drift(suite: SuiteReport, standard: Standard) -> Iterator[Check]:
    """Neutral prompts: mean KL to the base, nats a token, as served."""
    n, most = len(suite.version), standard.policy.max_drift
    drifts = [r.kl for r in suite.version]
    mean = sum(drifts) / n
    lower, upper = cluster_bootstrap_bounds(drifts, _families(suite.version), standard.policy.alpha)
    told = f"{mean:.4f} nats a token over {n} prompts"
    if not mean <= most:
        outcome, reason = Outcome.FAILED, f"{told}; {most:g} is allowed"
    elif n < MIN_DRIFT_PROMPTS:
        outcome, reason = Outcome.INSUFFICIENT, f"{told}; at least {MIN_DRIFT_PROMPTS} prompts are needed"
    else:
        outcome, reason = Outcome.PASSED, told
    yield Check(suite.suite, "drift from base", outcome, mean, most, n, lower=lower, upper=upper, reason=reason)


def _not_worse(
    suite: SuiteReport,
    name: str,
    version: Sequence[ItemResult],
    reference: Sequence[ItemResult],
    delta: float,
    min_items: int,
    required: bool,
    standard: Standard,
) -> Check:
    """Non-inferiority at margin `delta`.

    Lost more than the margin: failed, whatever the size. Enough items and the lower bound above -delta: passed. Else,
    with enough items and the power to have shown it: failed. Else the evidence doesn't suffice, and how much would.
    """
    n, alpha = len(version), standard.alpha
    fixed, broken = discordant(_right(version), _right(reference))
    difference = (fixed - broken) / n
    lower, upper = paired_bounds(_right(version), _right(reference), _families(version), alpha)
    chance = power(n, delta, alpha, (fixed + broken) / n)
    told = f"{broken} broken, {fixed} fixed of {n}; {difference:+.4f}, at least {lower:+.4f}"
    if difference < -delta - ROUNDING:
        outcome, reason = Outcome.FAILED, f"{told}: more than the margin of {delta:g} is lost"
    elif n >= min_items and lower > -delta:
        outcome, reason = Outcome.PASSED, told
    elif n >= min_items and chance >= WANTED_POWER:
        outcome, reason = Outcome.FAILED, f"{told}: a loss beyond the margin of {delta:g} isn't ruled out"
    else:
        outcome = Outcome.INSUFFICIENT
        wanted = needed_items(delta, alpha, (fixed + broken) / n, wanted_power=WANTED_POWER)
        enough = f"about {max(wanted, min_items, n + 1)} would do" if wanted else "no number can: set a larger margin"
        reason = f"{told}: too few items to rule out a loss of {delta:g}; {enough}"
    return Check(
        suite.suite,
        f"not worse than {name}",
        outcome,
        difference,
        -delta,
        n,
        lower=lower,
        upper=upper,
        delta=delta,
        power=chance,
        num_fixed=fixed,
        num_broken=broken,
        reason=reason if required or outcome is not Outcome.INSUFFICIENT else f"{reason}; reported only",
        required=required,
    )


def _required(suite: SuiteReport, standard: Standard) -> bool:
    return suite.required or suite.kind in standard.required


def _right(results: Sequence[ItemResult]) -> list[bool]:
    return [r.correct for r in results]


def _families(results: Sequence[ItemResult]) -> list[str]:
    return [r.family for r in results]


SuiteCheck = Callable[[SuiteReport, Standard], Iterator[Check]]
BY_KIND: Mapping[SuiteKind, SuiteCheck] = {
    SuiteKind.ACQUISITION: check_acquisition,
    SuiteKind.RETENTION: check_retention,
    SuiteKind.GENERAL: check_general,
    SuiteKind.NEAR_MISS: check_near_miss,
    SuiteKind.DRIFT: check_drift,
    SuiteKind.GOLDEN: check_golden,
}


def check_suites(report: Report, standard: Standard) -> Iterator[Check]:
    """Every suite of the report by its kind; a required kind that nobody sat is insufficient evidence."""
    for suite in report.suites:
        if suite.version:
            yield from BY_KIND[suite.kind](suite, standard)
    sat = {suite.kind for suite in report.suites if suite.version}
    for kind in sorted(standard.required - sat):
        reason = f"no {kind.value} suite was asked; it is required"
        yield Check(kind.value, "asked", Outcome.INSUFFICIENT, 0.0, 1.0, 0, reason=reason)


CHECKS: tuple[Callable[[Report, Standard], Iterator[Check]], ...] = (check_suites,)


def check_pairing(suite: SuiteReport, sides: Sequence[str]) -> None:
    """Raise GateError unless the named sides (and forced, if any) hold the same items in the same order."""
    asked = [r.item_id for r in suite.version]
    for side in (*sides, *(("forced",) if suite.forced else ())):
        if [r.item_id for r in getattr(suite, side)] != asked:
            raise GateError(f"suite {suite.suite!r}: {side} and version aren't paired item by item; examine again")
