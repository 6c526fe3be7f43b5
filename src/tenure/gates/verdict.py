"""The verdict: from a report and a policy to passed, failed or insufficient evidence, with every reason. Pure.

Lives here: the order of the checks' outcomes. Knows no model, store or clock: the same report, policy and night give
the same verdict. Called by the night, `tenure gate` and the benchmarks.
"""

from __future__ import annotations

from collections.abc import Collection

from tenure.config import GateConfig
from tenure.errors import ConfigError
from tenure.gates.checks import BY_KIND, CHECKS, Standard, check_pairing
from tenure.gates.examination import SIDES
from tenure.gates.statistics import alpha_of_night
from tenure.types import Check, Outcome, Report, SuiteKind, SuiteReport, Verdict

REQUIRED = frozenset({SuiteKind.ACQUISITION, SuiteKind.GENERAL, SuiteKind.NEAR_MISS, SuiteKind.DRIFT})


def judge(
    report: Report, policy: GateConfig, *, night_index: int = 1, required: Collection[SuiteKind] = REQUIRED
) -> Verdict:
    """Judge exactly the version that the report names.

    `night_index` counts judgements since the anchor was pinned (from 1) and sets the alpha that this one may spend.
    `required` are the kinds of suite without which nothing passes; leave out acquisition for a version that only drops
    something. Any failed check fails the verdict; else any insufficient one among the required leaves it insufficient.

    Raises GateError when a suite's results aren't paired, ConfigError for a policy that no test can be held by.
    """
    check_policy(policy)
    for suite in report.suites:
        check_pairing(suite, sorted(SIDES[suite.kind]))
    standard = Standard(policy, alpha_of_night(policy.alpha, night_index), frozenset(required))
    checks = tuple(check for make in CHECKS for check in make(report, standard))
    return Verdict(
        version=report.version,
        champion=report.champion,
        anchor=report.anchor,
        outcome=_outcome(checks),
        checks=checks,
        reasons=_reasons(report, checks),
        alpha=standard.alpha,
    )


def fails(
    suite: SuiteReport, policy: GateConfig, *, night_index: int = 1, required: Collection[SuiteKind] = REQUIRED
) -> bool:
    """Whether what this one suite shows refuses the version, whatever the others say; terms as in `judge`."""
    standard = Standard(policy, alpha_of_night(policy.alpha, night_index), frozenset(required))
    return any(check.outcome is Outcome.FAILED for check in BY_KIND[suite.kind](suite, standard))


def check_policy(policy: GateConfig) -> None:
    """Raises ConfigError for a policy that no test can be held by; the night asks before it spends an hour."""
    if not 0 < policy.alpha < 0.5:
        raise ConfigError(f"gate.alpha = {policy.alpha:g} is no one-sided error level; set it between 0 and 0.5")
    for name in ("delta", "forced_delta"):
        value = getattr(policy, name)
        if not 0 <= value < 1:
            raise ConfigError(f"gate.{name} = {value:g} is no share; set it to at least 0 and below 1")
    if not 0 <= policy.max_near_miss <= 1:
        raise ConfigError(f"gate.max_near_miss = {policy.max_near_miss:g} is no share; set it to 0 to 1 (1: any)")


def _outcome(checks: tuple[Check, ...]) -> Outcome:
    if any(check.outcome is Outcome.FAILED for check in checks):
        return Outcome.FAILED
    if not checks or any(check.required and check.outcome is not Outcome.PASSED for check in checks):
        return Outcome.INSUFFICIENT
    return Outcome.PASSED


def _reasons(report: Report, checks: tuple[Check, ...]) -> tuple[str, ...]:
    """What failed first, then what lacks evidence, then what passed; and what was never asked."""
    order = (Outcome.FAILED, Outcome.INSUFFICIENT, Outcome.PASSED)
    ranked = sorted(checks, key=lambda check: (order.index(check.outcome), not check.required))
    said = [f"{check.outcome.value}: {check.suite}, {check.name}: {check.reason}" for check in ranked]
    if not any(suite.kind is SuiteKind.RETENTION and suite.version for suite in report.suites):
        said.append("note: no earlier learning was asked about")
    for suite in report.suites:
        if suite.kind is SuiteKind.GENERAL and not suite.forced:
            said.append(f"note: {suite.suite} wasn't asked with the modules forced on")
    return tuple(said)
