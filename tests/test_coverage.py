"""Intervals hold the true value as often as they promise, tests reject as seldom, and power is what
was said.
"""

import math

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from tests.simulated import CASES, SIZES, Case, answers, coverage
from workbench.statistics import (
    blaker,
    cell_statistics,
    detection_power,
    minimal_detectable_difference,
    paired_difference,
)
from workbench.statistics.tails import skewed_p

LEAST = 0.93
MOST = 0.98
NAMES = [f"{case.kind}: {case.law}" for case in CASES]


def holds(case: Case, n: int, repetitions: int) -> None:
    """Coverage lies in the band, give or take three standard errors of the simulation itself."""
    result = coverage(case, n, repetitions)
    if not result.count:
        return  # the product prints none
    most = 1.0 if case.conservative else MOST
    slack = 3 * math.sqrt(0.05 * 0.95 / result.count)
    assert LEAST - slack <= result.covered <= most + slack, (case.kind, case.law, n, result)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_intervals_hold_the_truth_at_twenty(case):
    holds(case, 20, 4000 if case.kind in ("mean", "map cell") else 120)


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_intervals_hold_the_truth(case, n):
    holds(case, n, 20_000 if case.kind in ("mean", "map cell") else 2000)


@pytest.mark.parametrize("n", [10, 20, 50])
def test_promised_power_is_the_power_of_the_test_that_is_used(n):
    rng = np.random.default_rng(n)
    p = 0.5
    correlation = 0.5
    difference = minimal_detectable_difference(n, p=p, correlation=correlation)
    first = p - difference / 2
    second = p + difference / 2
    both = first * second + correlation * math.sqrt(first * (1 - first) * second * (1 - second))
    both = min(both, first)
    drawn = [
        paired_difference(*answers(rng, n, first - both, second - both)).p < 0.05
        for _ in range(400)
    ]
    assert np.mean(drawn) == pytest.approx(0.8, abs=0.03 + 3 * math.sqrt(0.16 / 400))
    assert detection_power(n, difference) == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize("n", [10, 30])
def test_a_true_difference_of_zero_is_seldom_rejected(n):
    rng = np.random.default_rng(n)
    limit = 0.055 + 3 * math.sqrt(0.05 * 0.95 / 300)
    right = [paired_difference(*answers(rng, n, 0.15, 0.15)).p < 0.05 for _ in range(300)]
    even = [paired_difference(np.zeros(n), rng.normal(0, 1, n)).p < 0.05 for _ in range(300)]
    skewed = [
        paired_difference(np.zeros(n), rng.exponential(1, n) - 1).p < 0.05 for _ in range(300)
    ]
    assert max(np.mean(right), np.mean(even), np.mean(skewed)) <= limit


@pytest.mark.parametrize("n", [2, 6, 10, 20, 30, 100])
def test_a_share_s_interval_holds_every_true_share_in_95_percent_of_cases_by_exact_sums(n):
    """No simulation: the chances of all outcomes whose interval holds the share are summed."""
    outcomes = np.arange(n + 1)
    low, high = np.array([blaker(int(hits), n) for hits in outcomes]).T
    low_cp, high_cp = (np.array(end) for end in proportion_confint(outcomes, n, method="beta"))
    assert (low >= low_cp - 1e-9).all() and (high <= high_cp + 1e-9).all()
    for share in np.r_[0.1, 0.3, 0.5, 0.8, 0.95, np.linspace(0.001, 0.999, 999)]:
        covered = binom.pmf(outcomes, n, share)[(low <= share) & (share <= high)].sum()
        assert covered >= 0.95, (n, share)
    assert low[0] == 0 and high[-1] == 1


@pytest.mark.parametrize("n", [10, 20, 30, 100])
@pytest.mark.parametrize("law", ["normal", "exponential", "exponential to either side"])
def test_a_map_of_nothing_seldom_shows_something(n, law):
    """450 cells that are 0 on average: after correction an effect is seen in .055 of the maps at
    most.
    """
    rng = np.random.default_rng(n)
    maps = 100
    cells = 450

    def one() -> np.ndarray:
        if law == "normal":
            return rng.normal(0, 1, (n, cells))
        sides = rng.choice([-1, 1], cells) if law != "exponential" else 1
        return (rng.exponential(1, (n, cells)) - 1) * sides

    seen = [(cell_statistics(one()).p < 0.05).any() for _ in range(maps)]
    assert np.mean(seen) <= 0.055 + 3 * math.sqrt(0.05 * 0.95 / maps)


@pytest.mark.parametrize("n", [10, 30])
def test_the_tail_of_skewed_statistics_is_theirs(n):
    rng = np.random.default_rng(n)
    x = rng.exponential(1, (n, 400_000))
    statistic = (x.mean(0) - 1) / x.std(0, ddof=1) * math.sqrt(n)
    values = skewed_p(statistic, n)
    for p in (0.01, 0.001):
        assert np.mean((values > 0) & (values < p)) == pytest.approx(p, rel=0.2)


def test_effects_beyond_doubt_are_still_seen_in_a_map():
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1, (20, 450))
    samples[:, :10] += 4
    significant = cell_statistics(samples).p < 0.05
    assert significant[:10].all() and not significant[10:].any()
