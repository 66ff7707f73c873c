"""Intervals hold the true value as often as they promise, tests reject as seldom, and power is what was said."""

import math

import numpy as np
import pytest

from tests.simulated import CASES, SIZES, Case, answers, coverage
from workbench.statistics import detection_power, minimal_detectable_difference, paired_difference

LEAST, MOST = 0.93, 0.98
LEAST_OF_WILSON = 0.90
"""Wilson's interval is kept, as the field's standard, although it dips near 0 and 1 at small n."""
NAMES = [f"{case.kind}: {case.law}" for case in CASES]


def holds(case: Case, n: int, repetitions: int) -> None:
    """Coverage lies in the band, give or take three standard errors of the simulation itself."""
    found = coverage(case, n, repetitions)
    if not found.count:
        return  # the product prints none
    least = LEAST_OF_WILSON if case.kind == "share right" else LEAST
    most = 1.0 if case.conservative else MOST
    slack = 3 * math.sqrt(0.05 * 0.95 / found.count)
    assert least - slack <= found.covered <= most + slack, (case.kind, case.law, n, found)


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
    p, correlation = 0.5, 0.5
    difference = minimal_detectable_difference(n, p=p, correlation=correlation)
    first, second = p - difference / 2, p + difference / 2
    both = first * second + correlation * math.sqrt(first * (1 - first) * second * (1 - second))
    both = min(both, first)
    drawn = [paired_difference(*answers(rng, n, first - both, second - both)).p < 0.05 for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(0.8, abs=0.03 + 3 * math.sqrt(0.16 / 400))
    assert detection_power(n, difference) == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize("n", [10, 30])
def test_a_true_difference_of_zero_is_seldom_rejected(n):
    rng = np.random.default_rng(n)
    limit = 0.055 + 3 * math.sqrt(0.05 * 0.95 / 300)
    right = [paired_difference(*answers(rng, n, 0.15, 0.15)).p < 0.05 for _ in range(300)]
    even = [paired_difference(np.zeros(n), rng.normal(0, 1, n)).p < 0.05 for _ in range(300)]
    skewed = [paired_difference(np.zeros(n), rng.exponential(1, n) - 1).p < 0.05 for _ in range(300)]
    assert max(np.mean(right), np.mean(even), np.mean(skewed)) <= limit
