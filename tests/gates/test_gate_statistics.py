"""The gate's statistics against published examples, exact enumeration and seeded simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial, norm

from tenure.gates.statistics import (
    alpha_of_night,
    cluster_bootstrap_bounds,
    items_for_rate,
    needed_items,
    newcombe_bounds,
    paired_bounds,
    power,
    rate_bounds,
    sign_test,
    tango_bounds,
    tango_statistic,
)


def test_tango_s_own_example() -> None:
    """Tango (1998), section 6.1: 43, 0, 1, 0 pairs; Z = 1.709 at Delta = .1; lower 90 % limit -0.096."""
    assert tango_statistic(0, 1, 44, -0.1) == pytest.approx(1.709, abs=5e-4)
    assert tango_bounds(0, 1, 44, 0.05)[0] == pytest.approx(-0.096, abs=5e-4)


def test_tango_agrees_with_r() -> None:
    """PropCIs::scoreci.mp(25, 28, 618, .90) gives -0.0148, 0.0247."""
    assert tango_bounds(28, 25, 618, 0.05) == pytest.approx((-0.0148, 0.0247), abs=5e-5)


def test_newcombe_s_own_example() -> None:
    """Newcombe (1998), method 10, pairs 36, 12, 2, 0: 0.0569 to 0.3404."""
    assert newcombe_bounds(36, 12, 2, 0, 0.025) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_tango_without_restriction_is_mcnemar() -> None:
    assert tango_statistic(15, 5, 100, 0.0) == pytest.approx(10 / math.sqrt(20))


def test_tango_maximises_the_restricted_likelihood() -> None:
    """The closed form against a fine grid of the trinomial likelihood under p12 - p21 = d."""
    b, c, n, d = 7, 12, 80, -0.08
    grid = np.linspace(0.0801, 0.5, 200_000)
    likelihood = b * np.log(grid + d) + c * np.log(grid) + (n - b - c) * np.log(1 - 2 * grid - d)
    q = grid[np.argmax(likelihood)]
    expected = (b - c - n * d) / math.sqrt(n * (2 * q + d * (1 - d)))
    assert tango_statistic(b, c, n, d) == pytest.approx(expected, abs=1e-4)


def test_the_two_intervals_agree_where_both_are_good() -> None:
    for fixed, broken in [(20, 30), (10, 10), (40, 5)]:
        newcombe = newcombe_bounds(250, fixed, broken, 250 - fixed - broken, 0.05)
        assert tango_bounds(fixed, broken, 500, 0.05) == pytest.approx(newcombe, abs=0.006)


@pytest.mark.parametrize("alpha", [0.05, 0.03, 0.0001, 1e-8])
def test_the_bound_is_monotone(alpha: float) -> None:
    n = 25
    tables = [(b, c) for b, c in itertools.product(range(n + 1), repeat=2) if b + c <= n]
    bound = {(b, c): tango_bounds(b, c, n, alpha)[0] for b, c in tables}
    for (b, c), low in bound.items():
        assert low <= (b - c) / n + 1e-12
        assert bound.get((b + 1, c), 1.0) >= low - 1e-9, "one more fixed lowered the bound"
        assert bound.get((b, c + 1), -1.0) <= low + 1e-9, "one more broken raised the bound"
        assert bound.get((b - 1, c + 1), -1.0) <= low + 1e-9, "fixed turned to broken raised the bound"


@pytest.mark.parametrize(("p_fixed", "p_broken"), [(0.0, 0.05), (0.02, 0.07), (0.1, 0.15), (0.2, 0.25)])
def test_the_bound_covers_by_exact_enumeration(p_fixed: float, p_broken: float) -> None:
    """Chance that the lower bound clears the true difference (a harmful version let through): about alpha at most."""
    n, alpha, difference = 100, 0.05, p_fixed - p_broken
    model = multinomial(n, [p_fixed, p_broken, 1 - p_fixed - p_broken])
    reach = range(46)
    miss = sum(
        model.pmf([b, c, n - b - c])
        for b, c in itertools.product(reach, repeat=2)
        if b + c <= n and (b == 0 or p_fixed > 0) and tango_bounds(b, c, n, alpha)[0] > difference
    )
    assert miss <= alpha + 0.012


def test_harm_at_the_margin_passes_rarely_in_simulation() -> None:
    """600 items, true loss exactly the margin: about 5 % pass at alpha = .05 (2,000 seeded draws)."""
    rng = np.random.default_rng(7)
    draws = rng.multinomial(600, [0.05, 0.10, 0.85], 2000)
    passed = np.mean([tango_statistic(b, c, 600, -0.05) > norm.isf(0.05) for b, c, _ in draws.tolist()])
    assert 0.03 <= passed <= 0.065


def _family_effects(rng: np.random.Generator) -> tuple[list[bool], list[bool], list[str]]:
    """40 families of 15; a tenth of the families, by chance, loses half of its items: true difference -0.05."""
    hit = rng.random(40) < 0.1
    families = [f"f{i // 15}" for i in range(600)]
    broken = [bool(hit[i // 15]) and rng.random() < 0.5 for i in range(600)]
    return [not b for b in broken], [True] * 600, families


def test_families_that_fall_together_need_the_clustered_bound() -> None:
    """Where losses come by families, the score bound lets far more than alpha through; the clustered one less."""
    rng = np.random.default_rng(11)
    score_only = clustered = 0
    for _ in range(200):
        version, reference, families = _family_effects(rng)
        broken = version.count(False)
        score_only += tango_bounds(0, broken, 600, 0.05)[0] > -0.05
        clustered += paired_bounds(version, reference, families, 0.05)[0] > -0.05
    assert score_only / 200 > 0.2
    assert clustered / 200 < 0.14
    assert clustered < score_only * 0.6


def test_the_bootstrap_of_singletons_is_the_plain_one() -> None:
    values = [0.0] * 80 + [1.0] * 20
    low, high = cluster_bootstrap_bounds(values, [str(i) for i in range(100)], 0.05)
    assert low == pytest.approx(0.2 - 1.645 * 0.04, abs=0.012)
    assert high == pytest.approx(0.2 + 1.645 * 0.04, abs=0.012)


def test_the_bootstrap_repeats_itself() -> None:
    values, families = [0.0, 1.0, 1.0, 0.0, 1.0], ["a", "a", "b", "c", "c"]
    assert cluster_bootstrap_bounds(values, families, 0.1) == cluster_bootstrap_bounds(values, families, 0.1)


@pytest.mark.parametrize(("n", "discordance"), [(600, 0.2), (600, 0.05), (300, 0.1), (1200, 0.3)])
def test_power_is_what_simulation_finds(n: int, discordance: float) -> None:
    rng = np.random.default_rng(3)
    draws = rng.multinomial(n, [discordance / 2, discordance / 2, 1 - discordance], 3000)
    found = np.mean([tango_statistic(b, c, n, -0.05) > norm.isf(0.05) for b, c, _ in draws.tolist()])
    assert power(n, 0.05, 0.05, discordance) == pytest.approx(found, abs=0.03)


def test_needed_items_are_the_fewest() -> None:
    n = needed_items(0.05, 0.05, 0.2)
    assert n is not None
    assert power(n, 0.05, 0.05, 0.2) >= 0.8 > power(n - 1, 0.05, 0.05, 0.2)
    finer = needed_items(0.01, 0.05, 0.2)
    assert finer is not None and finer > 20 * n
    assert needed_items(0.0, 0.05, 0.2) is None


def test_600_items_have_the_power_that_the_design_promises() -> None:
    """delta .05, 600 items, power .8: holds up to 24 % of the items changing."""
    assert power(600, 0.05, 0.05, 0.24) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (5, 0), (12, 4), (3, 9)])
def test_sign_test_is_the_exact_binomial(fixed: int, broken: int) -> None:
    expected = binomtest(fixed, fixed + broken, alternative="greater").pvalue if fixed + broken else 1.0
    assert sign_test(fixed, broken) == pytest.approx(expected)


def test_rates_are_bounded_exactly() -> None:
    assert rate_bounds(0, 300, 0.05)[1] == pytest.approx(1 - 0.05 ** (1 / 300))
    assert rate_bounds(0, 0, 0.05) == (0.0, 1.0)
    low, high = rate_bounds(6, 300, 0.05)
    assert low < 0.02 < high
    assert items_for_rate(0.02, 0.05) == 149
    assert items_for_rate(0.01, 0.05) == 299


def test_alpha_spent_over_all_nights_is_alpha() -> None:
    assert sum(alpha_of_night(0.05, k) for k in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    with pytest.raises(ValueError, match="count from 1"):
        alpha_of_night(0.05, 0)


def test_many_nights_do_not_let_harm_through() -> None:
    """30 nights, each with a version that has lost exactly the margin, in 400 seeded lives: with alpha spent at most
    about 5 % of the lives let one through; with the same alpha every night most of them do."""
    rng = np.random.default_rng(5)
    draws = rng.multinomial(600, [0.05, 0.10, 0.85], (400, 30))
    scores = np.array([[tango_statistic(int(b), int(c), 600, -0.05) for b, c, _ in life] for life in draws])
    spent = norm.isf([alpha_of_night(0.05, k) for k in range(1, 31)])
    assert (scores > spent).any(axis=1).mean() <= 0.08
    assert (scores > norm.isf(0.05)).any(axis=1).mean() >= 0.6
