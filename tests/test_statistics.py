"""Intervals and tests against numbers worked by hand."""

import math

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.statistics import (
    benjamini_hochberg,
    estimate_aggregate,
    estimate_mean,
    mcnemar,
    minimal_detectable_difference,
    paired_difference,
    sign_flip,
)


def test_eight_of_ten_has_the_wilson_interval_of_the_formula():
    estimate = estimate_mean([1] * 8 + [0] * 2)
    z, n, p = 1.959964, 10, 0.8
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (estimate.value, estimate.n) == (0.8, 10)
    assert estimate.stderr == pytest.approx(math.sqrt(0.16 / 9))  # sample standard deviation over sqrt(n)
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert (estimate.low, estimate.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_one_sample_has_no_standard_error():
    estimate = estimate_mean([0.5])
    assert estimate.value == 0.5 and math.isnan(estimate.stderr) and math.isnan(estimate.low)


def test_the_bootstrap_interval_of_a_mean_is_near_the_normal_one():
    x = np.random.default_rng(1).normal(3.0, 2.0, 400)
    estimate = estimate_mean(x)
    assert estimate.low == pytest.approx(x.mean() - 1.96 * estimate.stderr, abs=0.03)
    assert estimate.high == pytest.approx(x.mean() + 1.96 * estimate.stderr, abs=0.03)


def test_an_aggregate_is_resampled_as_a_whole():
    items = [(-2.0, 1), (-2.0, 1), (-2.0, 1), (-2.0, 1)]
    estimate = estimate_aggregate(items, lambda drawn: -sum(a for a, _ in drawn) / sum(b for _, b in drawn))
    assert (estimate.value, estimate.stderr, estimate.low, estimate.high) == (2.0, 0.0, 2.0, 2.0)


def test_mcnemar_looks_only_at_the_samples_that_one_model_gets_right():
    base = [1, 1, 1, 0, 0, 0, 0, 0, 0]
    tuned = [1, 1, 0, 1, 1, 1, 1, 1, 0]
    # One against five: 2 * (C(6,0) + C(6,1)) / 2**6
    assert mcnemar(base, tuned) == pytest.approx(14 / 64)
    assert mcnemar(base, base) == 1.0


def test_four_differences_of_one_sign_have_p_two_in_sixteen():
    assert sign_flip([1.0, 2.0, 0.5, 3.0]) == pytest.approx(2 / 16)
    assert sign_flip([0.0, 0.0]) == 1.0


def test_a_model_against_itself_differs_by_exactly_zero():
    for scores in ([1, 0, 1, 1], [0.3, -1.5, 2.25]):
        d = paired_difference(scores, scores)
        assert (d.difference, d.low, d.high, d.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_test_follows_the_scores():
    assert paired_difference([1, 0], [0, 1]).test == "McNemar exact"
    assert paired_difference([1, 0], [0, 1], weights=[1, 2]).test == "sign-flip permutation"
    assert paired_difference([1.5, 0], [0, 1]).test == "sign-flip permutation"


def test_a_weighted_difference_is_that_of_the_ratios():
    d = paired_difference([1.0, 3.0], [2.0, 3.5], weights=[30, 10])
    assert d.base == pytest.approx((30 + 30) / 40)
    assert d.tuned == pytest.approx((60 + 35) / 40)
    assert d.difference == pytest.approx(35 / 40)
    assert 0.5 <= d.low <= d.high <= 1.0


def test_the_interval_is_the_same_every_time_and_covers_a_real_difference():
    rng = np.random.default_rng(2)
    base = rng.normal(0, 1, 300)
    tuned = base + rng.normal(0.5, 0.2, 300)
    one, two = paired_difference(base, tuned), paired_difference(base, tuned)
    assert one == two
    assert one.low < 0.5 < one.high and one.p < 0.001
    assert one.high - one.low == pytest.approx(2 * 1.96 * 0.2 / math.sqrt(300), rel=0.1)


def test_unequal_lengths_are_refused():
    with pytest.raises(WorkbenchError, match="equally many scores"):
        paired_difference([1, 0], [1])


def test_benjamini_hochberg_by_hand():
    # p * m / rank, then the running minimum from the largest down.
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert benjamini_hochberg([]) == []


def test_the_detectable_difference_of_the_textbook():
    # (1.960 + 0.842) * sqrt(2 * 0.25 / n)
    assert minimal_detectable_difference(392, paired=False) == pytest.approx(0.1, abs=1e-3)
    assert minimal_detectable_difference(196, correlation=0.5) == pytest.approx(0.1, abs=1e-3)
    assert minimal_detectable_difference(400) == pytest.approx(minimal_detectable_difference(100) / 2)
    with pytest.raises(WorkbenchError):
        minimal_detectable_difference(0)
