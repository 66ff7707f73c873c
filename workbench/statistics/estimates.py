"""Estimates of one number: means with or without clusters, aggregates such as F1 or perplexity."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.statistics.means import (
    METHOD,
    WEIGHTED,
    Scores,
    interval_of_means,
    linearised,
    why_none,
)
from workbench.statistics.proportions import binary, estimate_clustered_share, estimate_share
from workbench.statistics.records import SAME, Estimate, few

JACKKNIFE = "jackknife pseudo-values, t corrected for skewness"
GROUPS = 500
"""Groups left out in turn where samples are more than these."""


def estimate_mean(scores: Scores, clusters: Sequence[Any] | None = None) -> Estimate:
    """Mean with its standard error and 95 % interval.

    For 0/1 scores Blaker's exact interval, or Wilson's with the effective sample size where they
    come in clusters; for all others a t interval corrected for skewness, over clusters where there
    are some.

    Args:
        scores: One a sample; NaN is left out and counted.
        clusters: What samples belong to, such as their passage; samples of one are no independent
            evidence, so the standard error is the clustered one (Miller 2024, equation 4).
    """
    every = np.asarray(scores, dtype=float)
    known = ~np.isnan(every)
    x = every[known]
    numbers = numbered(clusters, known)
    if len(x) and binary(x):
        found = estimate_share(x) if numbers is None else estimate_clustered_share(x, numbers)
    elif numbers is None:
        found = _mean(x)
    else:
        found = _clustered_mean(x, numbers)
    return Estimate(**{**vars(found), "left_out": len(every) - len(x)})


def _mean(x: np.ndarray) -> Estimate:
    n = len(x)
    value = float(x.mean()) if n else math.nan
    if n < 2:
        return Estimate(value, math.nan, math.nan, math.nan, n, METHOD, few(n))
    stderr = float(x.std(ddof=1) / math.sqrt(n))
    _, low, high = (float(part[0]) for part in interval_of_means(x[:, None]))
    reason = few(n) or (SAME if math.isnan(low) else "")
    return Estimate(value, stderr, low, high, n, METHOD, reason)


def _clustered_mean(x: np.ndarray, clusters: np.ndarray) -> Estimate:
    """A mean is the ratio of the clusters' sums and sizes."""
    sums, sizes = np.bincount(clusters, x), np.bincount(clusters).astype(float)
    found = linearised(sums[:, None], sizes, about_0=False)
    low, high, stderr = (float(part[0]) for part in (found.low, found.high, found.stderr))
    reason = why_none(found, len(sums), "clusters")
    return Estimate(
        float(x.mean()), stderr, low, high, len(x), f"{WEIGHTED}, over clusters", reason
    )


def estimate_aggregate(items: Sequence[Any], aggregate: Callable[[list[Any]], float]) -> Estimate:
    """Any other aggregate (perplexity, F1): its interval by the jackknife.

    Left out in turn, samples give pseudo-values (Tukey 1958), whose mean has the t interval
    corrected for skewness. An aggregate that is above 0 throughout and called perplexity is taken
    by its logarithm.
    """
    n = len(items)
    value = float(aggregate(list(items))) if n else math.nan
    if few(n):
        return Estimate(value, math.nan, math.nan, math.nan, n, JACKKNIFE, few(n))
    order = np.random.default_rng(0).permutation(n)
    groups = np.array_split(order, min(n, GROUPS))
    without = np.array(
        [float(aggregate([items[i] for i in _others(n, group)])) for group in groups]
    )
    by_logarithm = (
        "perplexity" in getattr(aggregate, "__name__", "") and value > 0 and (without > 0).all()
    )
    pseudo = pseudo_values(
        *(np.log([value]), np.log(without)) if by_logarithm else (np.array([value]), without)
    )
    centre = math.log(value) if by_logarithm else value
    mean, low, high = (float(part[0]) for part in interval_of_means(pseudo[:, None]))
    stderr = float(pseudo.std(ddof=1) / math.sqrt(len(pseudo)))
    low, high = centre + low - mean, centre + high - mean
    if by_logarithm:
        low, high, stderr = math.exp(low), math.exp(high), value * stderr
    return Estimate(value, stderr, low, high, n, JACKKNIFE, SAME if math.isnan(low) else "")


def pseudo_values(whole: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Tukey's pseudo-values from the whole's value and those without each group."""
    groups = len(without)
    return groups * whole - (groups - 1) * without


def _others(n: int, group: np.ndarray) -> np.ndarray:
    mask = np.ones(n, dtype=bool)
    mask[group] = False
    return np.flatnonzero(mask)


def numbered(clusters: Sequence[Any] | None, known: np.ndarray) -> np.ndarray | None:
    """The known samples' clusters as numbers; None where there are none or every sample is its own."""
    if clusters is None:
        return None
    names = np.asarray([str(cluster) for cluster in clusters])[known]
    unique, numbers = np.unique(names, return_inverse=True)
    return numbers if len(unique) < len(names) else None
