"""Two models on the same samples: their difference, its interval and its p, from one procedure."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Real
from scipy.stats import t

from workbench.errors import WorkbenchError
from workbench.statistics.estimates import JACKKNIFE, numbered, pseudo_values
from workbench.statistics.means import METHOD, WEIGHTED, Scores, linearised, ratios, why_none
from workbench.statistics.proportions import (
    TANGO,
    TANGO_CLUSTERED,
    binary,
    design_effect,
    mcnemar_p,
    tango,
)
from workbench.statistics.records import ALPHA, ONE_CLUSTER, Difference, few

MEAN_IS_0 = "t test of a mean of 0, corrected for skewness"
MCNEMAR = "McNemar exact"
SCORE = "score test over clusters"


def paired_difference(
    base: Scores,
    tuned: Scores,
    *,
    weights: Scores | None = None,
    clusters: Sequence[Any] | None = None,
    seed: int = 0,
) -> Difference:
    """Difference of two means over the same samples.

    Unweighted 0/1 scores use McNemar's exact test, and Tango's score interval, extended to 0 where
    that test does not reject. All others use a t test that the mean difference is 0, corrected for
    skewness, and the interval of the same statistic (of the linearised ratio where samples have
    weights or clusters).

    Args:
        base: Scores of the first model. A sample that is NaN on either side is left out and
            counted.
        tuned: Scores of the second model on the same samples, in the same order.
        weights: Weight of each sample, shared by both models; None for a plain mean.
        clusters: The group of each sample, such as its passage. Then groups, not samples, are the
            independent evidence.
        seed: Not used, because nothing is drawn at random.

    Raises:
        WorkbenchError: When the two have no scores, or not equally many.
    """
    a = np.asarray(base, dtype=float)
    b = np.asarray(tuned, dtype=float)
    w = np.ones_like(a) if weights is None else np.asarray(weights, dtype=float)
    if len(a) != len(b) or not len(a):
        raise WorkbenchError(
            f"A paired difference needs equally many scores, at least one; got {len(a)} and "
            f"{len(b)}."
        )
    known = ~(np.isnan(a) | np.isnan(b) | np.isnan(w))
    left_out = len(a) - int(known.sum())
    cluster_numbers = numbered(clusters, known)
    a = a[known]
    b = b[known]
    w = w[known]
    if not len(a):
        return _no_difference(METHOD, left_out)
    if binary(a) and binary(b) and (w == w[0]).all():
        if cluster_numbers is None:
            comparison = _shares(a, b)
        else:
            comparison = _clustered_shares(a, b, cluster_numbers)
    else:
        comparison = _means(b - a, w, cluster_numbers)
    low, high, p, test, method, reason = comparison

    def mean(x: np.ndarray) -> float:
        return float((x * w).sum() / w.sum())

    return Difference(
        base=mean(a),
        tuned=mean(b),
        difference=mean(b - a),
        low=low,
        high=high,
        p=p,
        n=len(a),
        test=test,
        method=method,
        reason=reason,
        left_out=left_out,
    )


def _no_difference(method: str, left_out: int) -> Difference:
    """The difference where no sample has a score from both models."""
    nan = math.nan
    return Difference(nan, nan, nan, nan, nan, nan, 0, MEAN_IS_0, method, few(0), left_out)


Parts = tuple[float, float, float, str, str, str]
"""low, high, p, test, method, reason."""


def _shares(a: np.ndarray, b: np.ndarray) -> Parts:
    """McNemar's test and Tango's interval of independent 0/1 scores."""
    n = len(a)
    only_tuned = int((b > a).sum())
    only_base = int((b < a).sum())
    if n < 2:
        return math.nan, math.nan, math.nan, MCNEMAR, TANGO, few(n)
    p = float(mcnemar_p(only_tuned, only_base))
    low, high = _extended_to_0(*tango(only_tuned, only_base, n), p)
    return low, high, p, MCNEMAR, TANGO, ""


def _clustered_shares(a: np.ndarray, b: np.ndarray, clusters: np.ndarray) -> Parts:
    """Tango's interval and a score test of clustered 0/1 scores.

    Counts are divided by the design effect, and the critical value is Student's.
    """
    d = b - a
    n = len(a)
    sizes = np.bincount(clusters)
    if len(sizes) < 2:
        return math.nan, math.nan, math.nan, SCORE, TANGO_CLUSTERED, ONE_CLUSTER
    degrees = len(sizes) - 1
    only_tuned = float((d > 0).sum())
    only_base = float((d < 0).sum())
    sums = np.bincount(clusters, d - d.mean())
    variance = float((sums**2).sum()) * len(sizes) / degrees / n**2
    differing = int((np.bincount(clusters, d != 0) > 0).sum())
    effect = design_effect(variance, float(d.var()) / n, sizes, differing)
    critical = float(t.ppf(1 - ALPHA / 2, degrees))
    low, high = tango(only_tuned / effect, only_base / effect, n / effect, critical)
    p = 1.0
    if only_tuned + only_base:
        statistic = (only_tuned - only_base) / math.sqrt((only_tuned + only_base) * effect)
        p = max(2 * float(t.sf(abs(statistic), degrees)), min(1.0, 2.0 ** (1 - differing)))
        p = max(p, float(mcnemar_p(int(only_tuned), int(only_base))))
    low, high = _extended_to_0(low, high, p)
    return low, high, p, SCORE, TANGO_CLUSTERED, ""


def _means(d: np.ndarray, w: np.ndarray, clusters: np.ndarray | None) -> Parts:
    """A t test and interval of the weighted mean of `d`, over clusters where there are some."""
    y = d * w
    x = w
    what = "samples"
    over = ""
    if clusters is not None:
        y = np.bincount(clusters, y)
        x = np.bincount(clusters, w)
        what = "clusters"
        over = ", over clusters"
    ratio = linearised(y[:, None], x)
    unweighted = bool((x == x[0]).all())
    return (
        float(ratio.low[0]),
        float(ratio.high[0]),
        float(ratio.p[0]),
        MEAN_IS_0 + over,
        (METHOD if unweighted else WEIGHTED) + over,
        why_none(ratio, len(y), what),
    )


def _extended_to_0(low: float, high: float, p: float) -> tuple[float, float]:
    """The interval, extended to 0 where the test does not reject a difference of 0."""
    return (low, high) if p < ALPHA else (min(low, 0.0), max(high, 0.0))


def paired_counts(
    base: Real[np.ndarray, "n k"],
    tuned: Real[np.ndarray, "n k"],
    aggregate: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int = 0,
) -> Difference:
    """Difference of a score of summed counts, such as F1, over the same samples.

    Leaving samples out in turn gives pseudo-values of the difference (Tukey 1958). Interval and p
    are those of a t test, corrected for skewness, that their mean is 0.

    Args:
        base: Counts of each sample under the first model; a sample with NaN is left out and
            counted.
        tuned: Counts under the second model, in the same order.
        aggregate: From summed counts `[..., k]` to scores `[...]`.
        seed: Not used, because nothing is drawn at random.

    Raises:
        WorkbenchError: When the two have no samples, or not equally many.
    """
    a = np.asarray(base, dtype=float)
    b = np.asarray(tuned, dtype=float)
    if a.shape != b.shape or not len(a):
        raise WorkbenchError(
            f"A paired difference needs equally many samples; got {len(a)} and {len(b)}."
        )
    known = ~(np.isnan(a).any(1) | np.isnan(b).any(1))
    left_out = len(a) - int(known.sum())
    a = a[known]
    b = b[known]
    n = len(a)
    if not n:
        return _no_difference(JACKKNIFE, left_out)
    base_score = float(aggregate(a.sum(0)))
    tuned_score = float(aggregate(b.sum(0)))
    difference = tuned_score - base_score
    without = aggregate(b.sum(0) - b) - aggregate(a.sum(0) - a)  # each sample left out in turn
    pseudo = pseudo_values(np.array([difference]), np.asarray(without, dtype=float))
    ratio = ratios((pseudo - pseudo.mean() + difference)[:, None])
    # A sign-flip test over the samples that differ cannot give a smaller p.
    differing = int((a != b).any(1).sum())
    p = max(float(ratio.p[0]), min(1.0, 2.0 ** (1 - differing)))
    low, high = _extended_to_0(float(ratio.low[0]), float(ratio.high[0]), p)
    return Difference(
        base=base_score,
        tuned=tuned_score,
        difference=difference,
        low=low,
        high=high,
        p=p,
        n=n,
        test=MEAN_IS_0,
        method=JACKKNIFE,
        reason=why_none(ratio, n),
        left_out=left_out,
    )
