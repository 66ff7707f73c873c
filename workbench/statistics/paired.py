"""Two models on the same samples: the difference, its interval and its p, all three from one
procedure.
"""

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

    Unweighted 0/1 scores: McNemar's exact test, and Tango's score interval, drawn out to 0 where
        that test does not
    reject. All others: a t test that the mean difference is 0, corrected for skewness, and the
    interval of the same statistic (of the linearised ratio where samples have weights or clusters).

    Args:
        base: Scores of the first model; a sample that is NaN on one side is left out and counted.
        tuned: Scores of the second model on the same samples, in the same order.
        weights: Of the samples, shared by both; None for a plain mean.
        clusters: What samples belong to, such as their passage; then clusters are what varies.
        seed: Not used: nothing is drawn at random.
    """
    a, b = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    w = np.ones_like(a) if weights is None else np.asarray(weights, dtype=float)
    if len(a) != len(b) or not len(a):
        raise WorkbenchError(
            f"A paired difference needs equally many scores, at least one; got {len(a)} and {len(b)}."
        )
    known = ~(np.isnan(a) | np.isnan(b) | np.isnan(w))
    left_out = len(a) - int(known.sum())
    numbers = numbered(clusters, known)
    a, b, w = a[known], b[known], w[known]
    if not len(a):
        nothing = [math.nan] * 6
        return Difference(*nothing, 0, MEAN_IS_0, METHOD, few(0), left_out)
    if binary(a) and binary(b) and (w == w[0]).all():
        rest = _shares(a, b) if numbers is None else _clustered_shares(a, b, numbers)
    else:
        rest = _means(b - a, w, numbers)
    means = [float((x * w).sum() / w.sum()) for x in (a, b, b - a)]
    low, high, p, test, method, reason = rest
    return Difference(*means, low, high, p, len(a), test, method, reason, left_out)


Parts = tuple[float, float, float, str, str, str]
"""low, high, p, test, method, reason."""


def _shares(a: np.ndarray, b: np.ndarray) -> Parts:
    n, only_tuned, only_base = len(a), int(((b - a) > 0).sum()), int(((b - a) < 0).sum())
    if n < 2:
        return math.nan, math.nan, math.nan, MCNEMAR, TANGO, few(n)
    p = float(mcnemar_p(only_tuned, only_base))
    low, high = _holding_0(*tango(only_tuned, only_base, n), p)
    return low, high, p, MCNEMAR, TANGO, ""


def _clustered_shares(a: np.ndarray, b: np.ndarray, clusters: np.ndarray) -> Parts:
    """Tango's interval and score test with counts divided by the design effect, Student's critical
    value.
    """
    d, n, sizes = b - a, len(a), np.bincount(clusters)
    if len(sizes) < 2:
        return math.nan, math.nan, math.nan, SCORE, TANGO_CLUSTERED, ONE_CLUSTER
    degrees = len(sizes) - 1
    only_tuned, only_base = float((d > 0).sum()), float((d < 0).sum())
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
    return *_holding_0(low, high, p), p, SCORE, TANGO_CLUSTERED, ""


def _means(d: np.ndarray, w: np.ndarray, clusters: np.ndarray | None) -> Parts:
    y, x, what = d * w, w, "samples"
    if clusters is not None:
        y, x, what = np.bincount(clusters, y), np.bincount(clusters, w), "clusters"
    found = linearised(y[:, None], x)
    low, high, p = (float(part[0]) for part in (found.low, found.high, found.p))
    plain = bool((x == x[0]).all())
    over = "" if clusters is None else ", over clusters"
    return (
        low,
        high,
        p,
        MEAN_IS_0 + over,
        (METHOD if plain else WEIGHTED) + over,
        why_none(found, len(y), what),
    )


def _holding_0(low: float, high: float, p: float) -> tuple[float, float]:
    """The interval, drawn out to 0 where the test does not reject a difference of 0."""
    return (low, high) if p < ALPHA else (min(low, 0.0), max(high, 0.0))


def paired_counts(
    base: Real[np.ndarray, "n k"],
    tuned: Real[np.ndarray, "n k"],
    aggregate: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int = 0,
) -> Difference:
    """Difference of a score of summed counts, such as F1, over the same samples.

    Samples left out in turn give pseudo-values of the difference (Tukey 1958); interval and p are
    those of a t test, corrected for skewness, that their mean is 0.

    Args:
        base: Counts of each sample under the first model; a sample with NaN is left out and
            counted.
        tuned: Under the second, in the same order.
        aggregate: From sums `[..., k]` to scores `[...]`.
        seed: Not used: nothing is drawn at random.
    """
    a, b = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    if a.shape != b.shape or not len(a):
        raise WorkbenchError(
            f"A paired difference needs equally many samples; got {len(a)} and {len(b)}."
        )
    known = ~(np.isnan(a).any(1) | np.isnan(b).any(1))
    left_out = len(a) - int(known.sum())
    a, b = a[known], b[known]
    n = len(a)
    if not n:
        nothing = [math.nan] * 6
        return Difference(*nothing, 0, MEAN_IS_0, JACKKNIFE, few(0), left_out)
    values = [float(aggregate(x.sum(0))) for x in (a, b)]
    without = aggregate(b.sum(0) - b) - aggregate(a.sum(0) - a)
    difference = values[1] - values[0]
    pseudo = pseudo_values(np.array([difference]), np.asarray(without, dtype=float))
    found = ratios((pseudo - pseudo.mean() + difference)[:, None])
    low, high, p = (float(part[0]) for part in (found.low, found.high, found.p))
    differing = int((a != b).any(1).sum())
    p = max(p, min(1.0, 2.0 ** (1 - differing)))
    low, high = _holding_0(low, high, p)
    return Difference(
        *values, difference, low, high, p, n, MEAN_IS_0, JACKKNIFE, why_none(found, n), left_out
    )
