"""Estimates of one number: means with or without clusters, and aggregates such as perplexity."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
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
"""Largest number of jackknife groups; above it several samples are left out at a time."""


def estimate_mean(scores: Scores, clusters: Sequence[Any] | None = None) -> Estimate:
    """Mean with its standard error and 95 % interval.

    0/1 scores get Blaker's exact interval, or, where samples come in clusters, Wilson's with the
    effective sample size. All other scores get a t interval corrected for skewness.

    Args:
        scores: One per sample; NaN is left out and counted.
        clusters: The group of each sample, such as its passage. Samples of one group are not
            independent evidence, so the standard error is the clustered one (Miller 2024,
            equation 4).
    """
    every = np.asarray(scores, dtype=float)
    known = ~np.isnan(every)
    x = every[known]
    cluster_numbers = numbered(clusters, known)
    if len(x) and binary(x):
        if cluster_numbers is None:
            estimate = estimate_share(x)
        else:
            estimate = estimate_clustered_share(x, cluster_numbers)
    elif cluster_numbers is None:
        estimate = _mean(x)
    else:
        estimate = _clustered_mean(x, cluster_numbers)
    return replace(estimate, left_out=len(every) - len(x))


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
    """The mean, computed as the ratio of the clusters' sums and sizes."""
    sums = np.bincount(clusters, x)
    sizes = np.bincount(clusters).astype(float)
    ratio = linearised(sums[:, None], sizes, about_0=False)
    return Estimate(
        value=float(x.mean()),
        stderr=float(ratio.stderr[0]),
        low=float(ratio.low[0]),
        high=float(ratio.high[0]),
        n=len(x),
        method=f"{WEIGHTED}, over clusters",
        reason=why_none(ratio, len(sums), "clusters"),
    )


def estimate_aggregate(
    items: Sequence[Any],
    aggregate: Callable[[list[Any]], float],
    clusters: Sequence[Any] | None = None,
) -> Estimate:
    """Value and 95 % interval of any other aggregate (perplexity, F1), by the jackknife.

    Leaving samples out in turn gives pseudo-values (Tukey 1958), whose mean gets the t interval
    corrected for skewness. A perplexity that is above 0 throughout is handled on the log scale.

    Args:
        items: The samples, in whatever form `aggregate` takes.
        aggregate: From a list of samples to one number.
        clusters: The group of each sample; whole clusters are left out in turn.
    """
    n = len(items)
    value = float(aggregate(list(items))) if n else math.nan
    numbers = numbered(clusters, np.ones(n, dtype=bool))
    n_units = n if numbers is None else int(numbers.max()) + 1
    reason = few(n_units, "samples" if numbers is None else "clusters")
    if reason:
        return Estimate(value, math.nan, math.nan, math.nan, n, JACKKNIFE, reason)
    order = np.random.default_rng(0).permutation(n_units)
    groups = np.array_split(order, min(n_units, GROUPS))
    if numbers is not None:
        groups = [np.flatnonzero(np.isin(numbers, group)) for group in groups]
    values_without = []
    for group in groups:
        rest = [items[i] for i in _others(n, group)]
        values_without.append(float(aggregate(rest)))
    without = np.array(values_without)
    name = getattr(aggregate, "__name__", "")
    log_scale = "perplexity" in name and value > 0 and bool((without > 0).all())
    centre = math.log(value) if log_scale else value
    pseudo = pseudo_values(np.array([centre]), np.log(without) if log_scale else without)
    mean, low, high = (float(part[0]) for part in interval_of_means(pseudo[:, None]))
    stderr = float(pseudo.std(ddof=1) / math.sqrt(len(pseudo)))
    # Centre the interval on the value itself, not on the mean of the pseudo-values.
    low += centre - mean
    high += centre - mean
    if log_scale:
        low = math.exp(low)
        high = math.exp(high)
        stderr = value * stderr  # delta method
    return Estimate(value, stderr, low, high, n, JACKKNIFE, SAME if math.isnan(low) else "")


def pseudo_values(whole: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Tukey's pseudo-values, from the value of all samples and those without each group."""
    groups = len(without)
    return groups * whole - (groups - 1) * without


def _others(n: int, group: np.ndarray) -> np.ndarray:
    mask = np.ones(n, dtype=bool)
    mask[group] = False
    return np.flatnonzero(mask)


def numbered(clusters: Sequence[Any] | None, known: np.ndarray) -> np.ndarray | None:
    """Cluster number of each known sample; None where every sample is a cluster of its own."""
    if clusters is None:
        return None
    names = np.asarray([str(cluster) for cluster in clusters])[known]
    unique, numbers = np.unique(names, return_inverse=True)
    return numbers if len(unique) < len(names) else None
