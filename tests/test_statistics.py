"""Intervals and tests against numbers worked by hand."""

import math

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.statistics import (
    benjamini_hochberg,
    cell_statistics,
    estimate_aggregate,
    estimate_mean,
    gain_shares,
    mcnemar,
    minimal_detectable_difference,
    paired_counts,
    paired_difference,
    tango,
    too_few,
    wilson,
)

pytestmark = pytest.mark.quick


def test_eight_of_ten_has_the_shares_that_the_exact_test_does_not_reject():
    """By summing over all eleven outcomes: a share is in where those as acceptable as 8 or less
    have 5 % or more.
    """
    estimate = estimate_mean([1] * 8 + [0] * 2)
    assert (estimate.value, estimate.n) == (0.8, 10)
    # Sample standard deviation over sqrt(n).
    assert estimate.stderr == pytest.approx(math.sqrt(0.16 / 9))

    def p_of(share: float) -> float:
        law = [math.comb(10, k) * share**k * (1 - share) ** (10 - k) for k in range(11)]
        tails = [min(sum(law[: k + 1]), sum(law[k:])) for k in range(11)]
        return sum(p for p, tail in zip(law, tails, strict=True) if tail <= tails[8] * (1 + 1e-9))

    inside = [share for share in np.linspace(0.0005, 0.9995, 2000) if p_of(share) > 0.05]
    assert (estimate.low, estimate.high) == pytest.approx((inside[0], inside[-1]), abs=1e-3)


def test_wilson_s_interval_is_that_of_the_formula():
    z = 1.959964
    n = 10
    p = 0.8
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson(0.8, 10) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_one_sample_has_no_standard_error():
    estimate = estimate_mean([0.5])
    assert estimate.value == 0.5 and math.isnan(estimate.stderr) and math.isnan(estimate.low)


def test_the_bootstrap_interval_of_a_mean_is_near_the_normal_one():
    x = np.random.default_rng(1).normal(3.0, 2.0, 400)
    estimate = estimate_mean(x)
    assert estimate.low == pytest.approx(x.mean() - 1.96 * estimate.stderr, abs=0.03)
    assert estimate.high == pytest.approx(x.mean() + 1.96 * estimate.stderr, abs=0.03)


def test_an_aggregate_of_samples_that_are_all_alike_has_no_interval():
    estimate = estimate_aggregate(
        [(-2.0, 1)] * 8, lambda drawn: -sum(a for a, _ in drawn) / sum(b for _, b in drawn)
    )
    assert estimate.value == 2.0 and math.isnan(estimate.low) and "too alike" in estimate.reason


def test_mcnemar_looks_only_at_the_samples_that_one_model_gets_right():
    base = [1, 1, 1, 0, 0, 0, 0, 0, 0]
    tuned = [1, 1, 0, 1, 1, 1, 1, 1, 0]
    # One against five: 2 * (C(6,0) + C(6,1)) / 2**6
    assert mcnemar(base, tuned) == pytest.approx(14 / 64)
    assert mcnemar(base, base) == 1.0


def test_a_model_against_itself_differs_by_exactly_zero():
    same = paired_difference([1, 0, 1, 1], [1, 0, 1, 1])
    # 0 of 4 differ: 1 may.
    assert (
        (same.difference, same.p) == (0.0, 1.0)
        and same.low == pytest.approx(-same.high)
        and same.low < 0
    )
    same = paired_difference([0.3, -1.5, 2.25] * 3, [0.3, -1.5, 2.25] * 3)
    assert (
        (same.difference, same.p) == (0.0, 1.0)
        and math.isnan(same.low)
        and "too alike" in same.reason
    )


def test_the_test_follows_the_scores():
    assert paired_difference([1, 0], [0, 1]).test == "McNemar exact"
    assert paired_difference([1, 0], [0, 1], weights=[1, 2]).test.startswith(
        "t test of a mean of 0"
    )
    assert paired_difference([1.5, 0], [0, 1]).test.startswith("t test of a mean of 0")


def test_a_weighted_difference_is_that_of_the_ratios():
    d = paired_difference([1.0, 3.0], [2.0, 3.5], weights=[30, 10])
    assert d.base == pytest.approx((30 + 30) / 40)
    assert d.tuned == pytest.approx((60 + 35) / 40)
    assert d.difference == pytest.approx(35 / 40)
    assert math.isnan(d.low) and math.isnan(d.p) and "too few" in d.reason


def test_the_interval_is_the_same_every_time_and_covers_a_real_difference():
    rng = np.random.default_rng(2)
    base = rng.normal(0, 1, 300)
    tuned = base + rng.normal(0.5, 0.2, 300)
    one = paired_difference(base, tuned)
    two = paired_difference(base, tuned)
    assert one == two
    assert one.low < 0.5 < one.high and one.p < 0.001
    assert one.high - one.low == pytest.approx(2 * 1.96 * 0.2 / math.sqrt(300), rel=0.1)


def test_unequal_lengths_are_refused():
    with pytest.raises(WorkbenchError, match="equally many scores"):
        paired_difference([1, 0], [1])


def test_benjamini_hochberg_by_hand():
    # p * m / rank, then the running minimum from the largest down.
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.5]) == pytest.approx(
        [0.04, 0.16 / 3, 0.16 / 3, 0.5]
    )
    assert benjamini_hochberg([]) == []


def test_benjamini_hochberg_leaves_nan_out():
    adjusted = benjamini_hochberg([0.01, math.nan, 0.04, 0.03, 0.5])
    assert math.isnan(adjusted[1]) and adjusted[0] == pytest.approx(0.04)


def test_the_detectable_difference_is_the_textbooks_and_a_sample_more():
    # (1.960 + 0.842) * sqrt(2 * 0.25 / n), and 1 / n since exact tests step by whole samples
    assert minimal_detectable_difference(392, paired=False) == pytest.approx(
        0.1 + 1 / 392, abs=1e-3
    )
    assert minimal_detectable_difference(196, correlation=0.5) == pytest.approx(
        0.1 + 1 / 196, abs=4e-3
    )
    assert (
        math.isnan(minimal_detectable_difference(5))
        and "fewer than 6 pairs" in too_few(5)
        and not too_few(6)
    )
    with pytest.raises(WorkbenchError):
        minimal_detectable_difference(0)


def test_tangos_interval_is_the_published_one_and_the_profile_likelihoods():
    # Fagerland, Lydersen and Laake 2014, airway hyper-responsiveness: 1 and 7 of 21 pairs differ.
    assert tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=1e-3)
    for only_tuned, only_base, n in ((9, 2, 30), (40, 20, 160), (0, 0, 40)):
        for end, sign in zip(tango(only_tuned, only_base, n), (1, -1), strict=True):
            # The constrained shares by brute force: those that make the counts likeliest at this
            # difference.
            least = np.linspace(max(0, -end), (1 - abs(end)) / 2 + max(0, -end), 400_001)[1:-1]
            rest = np.clip(1 - 2 * least - end, 1e-12, 1)
            likely = only_tuned * np.log(least + end) + only_base * np.log(least)
            best = least[np.argmax(likely + (n - only_tuned - only_base) * np.log(rest))]
            spread = math.sqrt((2 * best + end - end**2) / n)
            assert ((only_tuned - only_base) / n - end) / spread == pytest.approx(
                sign * 1.959964, abs=5e-3
            )


def test_no_success_in_clusters_still_leaves_room():
    alone = estimate_mean([0] * 40, range(40))
    together = estimate_mean([0] * 40, [i // 2 for i in range(40)])
    assert (
        alone.high == pytest.approx(0.0795, abs=1e-3)
        and together.low == 0.0 < alone.high < together.high < 0.2
    )


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_samples_give_words_and_no_number(n):
    d = paired_difference(np.arange(n) * 0.5, np.arange(n) + 0.25)
    assert math.isnan(d.low) and math.isnan(d.p) and d.reason
    assert (
        math.isnan(estimate_mean(np.arange(n) / 3).low) and estimate_mean(np.arange(n) / 3).reason
    )


def test_one_cluster_or_one_pair_of_answers_claims_nothing():
    for d in (
        paired_difference([1], [0]),
        paired_difference([1, 0, 1], [0.5, 0, 0], clusters=["a"] * 3),
    ):
        assert math.isnan(d.low) and math.isnan(d.p) and d.reason
    assert "cluster" in paired_difference([1, 0], [0, 1], clusters=["a", "a"]).reason


def test_nan_scores_are_left_out_and_counted():
    base = [1, 0, 1, 0, math.nan, 1, 0, 0, 1]
    tuned = [1, 1, 1, 1, 1, 1, 1, 1, math.nan]
    d = paired_difference(base, tuned)
    assert (d.n, d.left_out) == (7, 2) and d.p == pytest.approx(2 / 2**4)
    assert estimate_mean([0.5, math.nan, 0.25]).left_out == 1 and estimate_mean([math.nan]).n == 0


@pytest.mark.parametrize("seed", range(40))
def test_an_interval_leaves_zero_out_exactly_where_p_is_below_five_percent(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 40))
    base = rng.normal(0, 1, n)
    shift = rng.exponential(1, n) - rng.uniform(0, 1.5)
    right = (rng.random((2, n)) < [[0.4], [0.7]]).astype(float)
    clusters = rng.integers(0, max(6, n // 2), n).tolist()
    sums = rng.integers(0, 4, (2, n, 3)).astype(float)
    differences = [
        paired_difference(base, base + shift),
        paired_difference(base, base + shift, weights=rng.uniform(1, 5, n)),
        paired_difference(base, base + shift, clusters=clusters),
        paired_difference(*right),
        paired_difference(*right, clusters=clusters),
        paired_counts(sums[0], sums[1], lambda s: s[..., 0] / np.maximum(s.sum(-1), 1)),
    ]
    for d in differences:
        assert math.isnan(d.low) or (d.low > 0 or d.high < 0) == (d.p < 0.05), d
    cells = cell_statistics(
        rng.exponential(1, (n, 30)) - rng.uniform(0, 2, 30), per=rng.gamma(9, 1, n)
    )
    known = ~np.isnan(cells.low)
    assert cells.p_cell is not None
    assert (((cells.low > 0) | (cells.high < 0)) == (cells.p_cell < 0.05))[known].all()


def test_shares_are_given_only_where_the_paired_test_shows_the_gain():
    rng = np.random.default_rng(0)
    for size in (0.2, 0.4, 0.6, 1.0):
        base = rng.normal(0, 1, 12)
        tuned = base + rng.normal(size, 1, 12)
        given = not np.isnan(gain_shares(tuned[None], base, tuned).mean).all()
        assert given == (paired_difference(base, tuned).p < 0.05)
