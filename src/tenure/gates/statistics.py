"""The gate's statistics: paired differences of proportions, rates, power, and alpha spent over nights.

Lives here: bounds and tests as pure functions of counts. Knows no suite, item or policy. Called by `verdict`.

Notation: `num_fixed` items are right under the version and wrong under the reference, `num_broken` the reverse, n items
in all; the difference is d = (num_fixed - num_broken) / n. All bounds are one-sided at 1 - alpha. statsmodels gives the
single-proportion intervals; it has no score interval for paired differences, so Tango's and Newcombe's stand here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint

BOOTSTRAP_SEED = 20261124
NUM_RESAMPLES = 4000


def tango_statistic(num_fixed: int, num_broken: int, n: int, difference: float) -> float:
    """Score statistic of H0: d = `difference`; standard normal under H0, falling in `difference`.

    Tango (1998), Statistics in Medicine 17:891-908, equations 24-26, with difference = -Delta. Undefined (0/0) only at
    the observed difference of a table without discordant pairs, where its limit 0 is given.
    """
    b, c = num_fixed, num_broken
    linear = -(b + c) + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    restricted = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * restricted + difference * (1 - difference))
    distance = b - c - n * difference
    if distance == 0:
        return 0.0
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


def tango_bounds(num_fixed: int, num_broken: int, n: int, alpha: float) -> tuple[float, float]:
    """Lower and upper one-sided score bounds of d: the roots of `tango_statistic` = +z and -z (Tango 1998, section 4).

    Monotone: one more fixed item never lowers a bound, one more broken item never raises it (a test enumerates tables).
    """
    return _tango_lower(num_fixed, num_broken, n, alpha), -_tango_lower(num_broken, num_fixed, n, alpha)


def _tango_lower(b: int, c: int, n: int, alpha: float) -> float:
    z = float(norm.isf(alpha))
    observed = (b - c) / n
    start = -1 + 1e-12
    if observed <= start or tango_statistic(b, c, n, start) <= z:
        return -1.0
    return float(brentq(lambda d: tango_statistic(b, c, n, d) - z, start, observed, xtol=1e-12))


def newcombe_bounds(both: int, num_fixed: int, num_broken: int, neither: int, alpha: float) -> tuple[float, float]:
    """One-sided bounds of d by Newcombe's method 10: Wilson limits of both margins, joined with a corrected phi.

    Newcombe (1998), Statistics in Medicine 17:2635-2650. A second opinion with no formula in common with Tango's.
    """
    n = both + num_fixed + num_broken + neither
    p1, p2 = (both + num_fixed) / n, (both + num_broken) / n
    low1, high1 = proportion_confint(both + num_fixed, n, alpha=2 * alpha, method="wilson")
    low2, high2 = proportion_confint(both + num_broken, n, alpha=2 * alpha, method="wilson")
    margins = (both + num_fixed) * (num_broken + neither) * (both + num_broken) * (num_fixed + neither)
    cross = float(both * neither - num_fixed * num_broken)
    if cross > 0:
        cross = max(cross - n / 2, 0.0)
    phi = cross / math.sqrt(margins) if margins else 0.0
    below = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    above = (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2
    return p1 - p2 - math.sqrt(max(below, 0.0)), p1 - p2 + math.sqrt(max(above, 0.0))


def cluster_bootstrap_bounds(
    values: Sequence[float], families: Sequence[str], alpha: float, *, seed: int = BOOTSTRAP_SEED
) -> tuple[float, float]:
    """One-sided percentile bounds of the mean of `values` when whole families are drawn again, with replacement.

    Percentile, not BCa: with a fixed seed every resample falls when one value falls, so the bound is monotone. Its
    level is expanded for few families (Hesterberg 2015, The American Statistician 69:371-386, section 4.2). It is still
    too narrow for few families, few discordant items, or an alpha below 1 / NUM_RESAMPLES; the verdict takes the worse
    of it and the score bound.
    """
    names, index = np.unique(np.asarray(families), return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(values, dtype=float))
    sizes = np.bincount(index).astype(np.float64)
    counts_RF = _resample_counts(len(names), seed)
    means = (counts_RF @ sums) / (counts_RF @ sizes)
    level = _expanded(alpha, len(names))
    low = np.quantile(means, level, method="lower")
    return float(low), float(np.quantile(means, 1 - level, method="higher"))


@functools.lru_cache(maxsize=4)
def _resample_counts(num_families: int, seed: int) -> NDArray[np.float64]:
    """[resamples, families]: how often each family is drawn; fewer resamples of very many families bound the memory."""
    num_resamples = min(NUM_RESAMPLES, max(1000, 4_000_000 // num_families))
    even = np.full(num_families, 1 / num_families)
    return np.random.default_rng(seed).multinomial(num_families, even, num_resamples).astype(np.float64)


def _expanded(alpha: float, num_families: int) -> float:
    if num_families < 2:
        return alpha
    return float(norm.cdf(math.sqrt(num_families / (num_families - 1)) * student.ppf(alpha, num_families - 1)))


def paired_bounds(
    version: Sequence[bool], reference: Sequence[bool], families: Sequence[str], alpha: float
) -> tuple[float, float]:
    """One-sided lower and upper bounds of d: the worse of the score bound and the bootstrap clustered by family."""
    low, high = tango_bounds(*discordant(version, reference), len(version), alpha)
    differences = [v - r for v, r in zip(version, reference, strict=True)]
    clustered_low, clustered_high = cluster_bootstrap_bounds(differences, families, alpha)
    return min(low, clustered_low), max(high, clustered_high)


def discordant(version: Sequence[bool], reference: Sequence[bool]) -> tuple[int, int]:
    """(num_fixed, num_broken)."""
    pairs = list(zip(version, reference, strict=True))
    return sum(v and not r for v, r in pairs), sum(r and not v for v, r in pairs)


def sign_test(num_fixed: int, num_broken: int) -> float:
    """One-sided exact p-value of "no better than the reference": P(X >= fixed), X ~ Binomial(fixed + broken, 1/2).

    The exact form of McNemar's test.
    """
    return float(binom.sf(num_fixed - 1, num_fixed + num_broken, 0.5)) if num_fixed else 1.0


def rate_bounds(count: int, n: int, alpha: float) -> tuple[float, float]:
    """One-sided exact (Clopper-Pearson) lower and upper bounds of a rate; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    low, high = proportion_confint(count, n, alpha=2 * alpha, method="beta")
    return float(low), float(high)


def power(n: int, delta: float, alpha: float, discordance: float) -> float:
    """Chance that a version with no true loss passes non-inferiority at margin `delta`.

    `discordance` is the share of items that it answers otherwise than the reference. Normal approximation of the score
    test, with its variance under d = -delta for the threshold and under d = 0 for the chance (Lachin 1992 for paired
    designs; Tango 1998, section 5).
    """
    if n == 0 or delta <= 0:
        return 0.0
    z = float(norm.isf(alpha))
    if discordance <= 0:
        return float(tango_bounds(0, 0, n, alpha)[0] > -delta)
    threshold = z * math.sqrt(_restricted_discordance(discordance, delta) / n) - delta
    return float(norm.sf(threshold / math.sqrt(discordance / n)))


def _restricted_discordance(discordance: float, delta: float) -> float:
    """Variance of one pair's difference under d = -delta, as the score test would estimate it when d = 0 holds."""
    linear = -discordance - 2 * delta
    constant = discordance / 2 * delta * (1 + delta)
    restricted = (math.sqrt(max(0.0, linear * linear - 8 * constant)) - linear) / 4
    return 2 * restricted - delta * (1 + delta)


def needed_items(delta: float, alpha: float, discordance: float, *, wanted_power: float = 0.8) -> int | None:
    """Fewest items at which `power` reaches `wanted_power`; None where no number does (delta = 0)."""
    if delta <= 0:
        return None
    low, high = 1, 2
    while power(high, delta, alpha, discordance) < wanted_power:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, delta, alpha, discordance) >= wanted_power else (middle, high)
    return high


def items_for_rate(rate: float, alpha: float) -> int:
    """Fewest items at which not one event bounds a rate below `rate`: smallest n with (1 - rate)^n <= alpha."""
    return math.ceil(math.log(alpha) / math.log1p(-rate)) if rate < 1 else 1


def alpha_of_night(alpha: float, night_index: int) -> float:
    """The error that the k-th judgement since the anchor was pinned may spend: alpha * 6 / (pi^2 k^2).

    The sum over all k is alpha, so however many nights follow, the chance that any of them lets a version through that
    has lost delta is at most alpha (Bonferroni over a convergent series; holds under any dependence). Boundaries of
    group-sequential trials (Pocock, O'Brien-Fleming) need a fixed number of looks at one hypothesis; each night is a
    new hypothesis and there is no last night. A person who re-pins the anchor starts a new count.
    """
    if night_index < 1:
        raise ValueError(f"night_index = {night_index}; nights count from 1")
    return alpha * 6 / (math.pi**2 * night_index**2)
