"""Intervals and tests of proportions, such as accuracies, and of paired differences of them."""

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.stats import beta, binom, norm, t

from workbench.statistics.means import Scores
from workbench.statistics.records import ALPHA, LEVEL, ONE_CLUSTER, Estimate, few

BLAKER = "Blaker 2000, exact"
CLUSTERED = "Wilson with effective sample size"
TANGO = "Tango 1998, score"
TANGO_CLUSTERED = "Tango 1998, score, with effective sample size"
Z = float(norm.ppf(1 - ALPHA / 2))
STEPS = 400
"""Grid size of the search for each end of Blaker's interval."""


def binary(x: np.ndarray) -> bool:
    """Whether all scores are 0 or 1."""
    return bool(np.isin(x, (0.0, 1.0)).all())


def wilson(share: float, n: float, critical: float = Z) -> tuple[float, float]:
    """Wilson's interval (low, high) of a share.

    Args:
        share: Observed share, 0 to 1.
        n: Samples; an effective sample size need not be whole.
        critical: Critical value; the default is the normal distribution's for 95 %.
    """
    square = critical**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = critical / (1 + square / n) * np.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def blaker(hits: int, n: int) -> tuple[float, float]:
    """Blaker's exact 95 % interval (low, high) of a share, from `hits` of `n` samples.

    It holds the shares that a two-sided exact test does not reject. Like Clopper and Pearson's
    interval it covers the true share with at least 95 % whatever that is, and it is never wider.

    Reference:
        Blaker (2000), "Confidence Curves and Improved Exact Confidence Intervals for Discrete
        Distributions".
    """
    return _blaker_low(hits, n), 1 - _blaker_low(n - hits, n)


@cache
def _blaker_low(hits: int, n: int) -> float:
    """The lower end, which lies between those of Clopper and Pearson's 95 % and 90 % intervals."""
    if hits == 0:
        return 0.0
    lowest = float(beta.ppf(ALPHA / 2, hits, n - hits + 1))
    highest = float(beta.ppf(ALPHA, hits, n - hits + 1))
    shares = np.linspace(lowest, highest, STEPS)
    accepted = np.flatnonzero(_acceptability(hits, n, shares) > ALPHA)
    first = int(accepted[0]) if len(accepted) else STEPS - 1
    return float(shares[max(0, first - 1)])


def _acceptability(
    hits: int, n: int, shares: Float[np.ndarray, " share"]
) -> Float[np.ndarray, " share"]:
    """P-value of each share below the observed one: the upper tail, and the rarer lower tail."""
    above = binom.sf(hits - 1, n, shares)
    rare = binom.ppf(above * (1 - 1e-12), n, shares)
    below = binom.cdf(rare, n, shares)
    below = np.where(below <= above * (1 + 1e-12), below, binom.cdf(rare - 1, n, shares))
    return above + below


def estimate_share(x: np.ndarray) -> Estimate:
    """The share of ones in `x` with Blaker's exact interval."""
    n = len(x)
    share = float(x.mean()) if n else float("nan")
    if n < 2:
        return Estimate(share, float("nan"), float("nan"), float("nan"), n, BLAKER, few(n))
    return Estimate(share, float(x.std(ddof=1) / np.sqrt(n)), *blaker(int(x.sum()), n), n, BLAKER)


def estimate_clustered_share(x: np.ndarray, clusters: np.ndarray) -> Estimate:
    """The share of ones in clustered samples, with Wilson's interval at the effective sample size.

    n is divided by the design effect (at least 1), as Korn and Graubard (1998) do, and the critical
    value is Student's with (number of clusters - 1) degrees of freedom. Where only few clusters
    hold the rarer answer, the design effect is poorly known and is pulled towards its largest
    value, that of clusters whose samples are all equal.

    Args:
        x: 0/1 scores.
        clusters: Cluster number of each sample, from 0.
    """
    n = len(x)
    value = float(x.mean())
    sizes = np.bincount(clusters)
    if len(sizes) < 2:
        return Estimate(value, float("nan"), float("nan"), float("nan"), n, CLUSTERED, ONE_CLUSTER)
    residuals = np.bincount(clusters, x - value)
    stderr = float(np.sqrt(len(sizes) / (len(sizes) - 1) * (residuals**2).sum())) / n
    rarer = 1 - x if value > 0.5 else x
    holding = int((np.bincount(clusters, rarer) > 0).sum())
    effect = design_effect(stderr**2, value * (1 - value) / n, sizes, holding)
    critical = float(t.ppf(1 - ALPHA / 2, len(sizes) - 1))
    return Estimate(value, stderr, *wilson(value, n / effect, critical), n, CLUSTERED)


def design_effect(variance: float, independent: float, sizes: np.ndarray, holding: int) -> float:
    """How many times larger the clustered variance is than that of independent samples, at least 1.

    Args:
        variance: Variance of the estimate, computed with the clusters.
        independent: Variance computed without them; 0 where no sample differs.
        sizes: Number of samples of every cluster.
        holding: Number of clusters that contain the rarer outcome.
    """
    most = float((sizes**2).sum() / sizes.sum())
    if independent <= 0 or not holding:
        return most
    weight = 1 / holding**2
    return (max(1.0, variance / independent) + weight * most) / (1 + weight)


def tango(
    only_tuned: float, only_base: float, n: float, critical: float = Z
) -> tuple[float, float]:
    """Tango's (1998) score interval (low, high) of a paired difference of shares.

    Args:
        only_tuned: Samples that only the second model gets right.
        only_base: Samples that only the first model gets right.
        n: All samples. The three may be effective numbers, which need not be whole.
        critical: Critical value of the normal or Student's distribution.
    """
    observed = (only_tuned - only_base) / n

    def excess(difference: float) -> float:
        return _score(only_tuned, only_base, n, difference)

    low = (
        -1.0
        if excess(-1 + 1e-12) <= critical
        else _crossing(excess, -1 + 1e-12, observed, critical)
    )
    high = (
        1.0 if excess(1 - 1e-12) >= -critical else _crossing(excess, observed, 1 - 1e-12, -critical)
    )
    return low, high


def _score(only_tuned: float, only_base: float, n: float, difference: float) -> float:
    """Tango's statistic, with the nuisance share at its constrained maximum-likelihood value."""
    lead = 2 * n
    middle = -only_tuned - only_base + (2 * n - only_tuned + only_base) * difference
    last = -only_base * difference * (1 - difference)
    nuisance = (np.sqrt(max(middle**2 - 4 * lead * last, 0.0)) - middle) / (2 * lead)
    variance = n * (2 * nuisance + difference * (1 - difference))
    above = only_tuned - only_base - n * difference
    return float(above / np.sqrt(max(variance, 1e-300))) if above else 0.0


def _crossing(
    function: Callable[[float], float], left: float, right: float, target: float
) -> float:
    """Where a decreasing function takes the target, by bisection."""
    for _ in range(60):
        middle = (left + right) / 2
        if function(middle) > target:
            left = middle
        else:
            right = middle
    return (left + right) / 2


def mcnemar(base: Scores, tuned: Scores) -> float:
    """McNemar's exact two-sided p that two models are equally often right on paired samples."""
    base_right = np.asarray(base, dtype=bool)
    tuned_right = np.asarray(tuned, dtype=bool)
    only_tuned = int((~base_right & tuned_right).sum())
    only_base = int((base_right & ~tuned_right).sum())
    return float(mcnemar_p(only_tuned, only_base))


def mcnemar_p(only_tuned: np.ndarray | int, only_base: np.ndarray | int) -> np.ndarray:
    """McNemar's exact p from the counts of samples that only one model gets right."""
    least = np.minimum(only_tuned, only_base)
    return np.minimum(1.0, 2 * binom.cdf(least, np.add(only_tuned, only_base), 0.5))


def largest_share(hits: int, n: int) -> float:
    """One-sided 95 % upper bound on a share, from `hits` of `n` draws (Clopper-Pearson)."""
    return 1.0 if hits >= n else float(beta.ppf(LEVEL, hits + 1, n - hits))
