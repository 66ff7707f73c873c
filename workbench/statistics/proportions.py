"""Shares of samples that are right: Blaker's and Wilson's intervals, Tango's of a paired
difference, McNemar's test.
"""

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
"""Shares that are tried between the bounds of each end."""


def binary(x: np.ndarray) -> bool:
    """Whether all scores are 0 or 1."""
    return bool(np.isin(x, (0.0, 1.0)).all())


def wilson(share: float, n: float, critical: float = Z) -> tuple[float, float]:
    """Wilson's interval (low, high) of a share of `n` samples; `n` may be an effective, broken
    number.
    """
    square = critical**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = critical / (1 + square / n) * np.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def blaker(hits: int, n: int) -> tuple[float, float]:
    """Blaker's (2000) exact interval (low, high) of a share of which `n` samples had `hits`.

    It holds the true share in 95 % of cases or more whatever that is, as Clopper and Pearson's
    does, and is never wider
    than theirs: shares belong to it whose two-sided exact test does not reject.
    """
    return _blaker_low(hits, n), 1 - _blaker_low(n - hits, n)


@cache
def _blaker_low(hits: int, n: int) -> float:
    """The lower end: it lies between those of Clopper and Pearson's intervals of 95 % and of 90 %."""
    if hits == 0:
        return 0.0
    ends = (beta.ppf(level, hits, n - hits + 1) for level in (ALPHA / 2, ALPHA))
    shares = np.linspace(*ends, STEPS)
    accepted = np.flatnonzero(_acceptability(hits, n, shares) > ALPHA)
    first = int(accepted[0]) if len(accepted) else STEPS - 1
    return float(shares[max(0, first - 1)])


def _acceptability(
    hits: int, n: int, shares: Float[np.ndarray, " share"]
) -> Float[np.ndarray, " share"]:
    """P of each true share below the one seen: so many hits or more, and what is as rare on the
    other side.
    """
    above = binom.sf(hits - 1, n, shares)
    rare = binom.ppf(above * (1 - 1e-12), n, shares)
    below = binom.cdf(rare, n, shares)
    below = np.where(below <= above * (1 + 1e-12), below, binom.cdf(rare - 1, n, shares))
    return above + below


def estimate_share(x: np.ndarray) -> Estimate:
    """The share of ones with Blaker's exact interval."""
    n = len(x)
    share = float(x.mean()) if n else float("nan")
    if n < 2:
        return Estimate(share, float("nan"), float("nan"), float("nan"), n, BLAKER, few(n))
    return Estimate(share, float(x.std(ddof=1) / np.sqrt(n)), *blaker(int(x.sum()), n), n, BLAKER)


def estimate_clustered_share(x: np.ndarray, clusters: np.ndarray) -> Estimate:
    """The share of ones where samples come in clusters: Wilson's interval with the effective sample
    size.

    n is divided by the design effect (at least 1), as Korn and Graubard (1998) do, and the critical
    value is Student's with as many degrees of freedom as there are clusters, less one. Few clusters
    that hold the rarer answer say little of the design effect; it then leans towards what it is
    where a cluster's samples are all alike.
    """
    n, value = len(x), float(x.mean())
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
    """How much larger a clustered variance is than that of independent samples, at least 1.

    Args:
        variance: Estimated with the clusters.
        independent: Without them; 0 where no sample differs.
        sizes: Samples of every cluster.
        holding: Clusters that hold what the estimate rests on.
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
        n: All samples; the three may be effective, broken numbers.
        critical: Of the normal or Student's distribution.
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
    """Tango's statistic; the nuisance share has its constrained maximum-likelihood value."""
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
    """Where a falling function takes the target, by bisection."""
    for _ in range(60):
        middle = (left + right) / 2
        if function(middle) > target:
            left = middle
        else:
            right = middle
    return (left + right) / 2


def mcnemar(base: Scores, tuned: Scores) -> float:
    """Exact two-sided p that the samples only one of two models gets right fall evenly on both."""
    a, b = np.asarray(base, dtype=bool), np.asarray(tuned, dtype=bool)
    return float(mcnemar_p(int((~a & b).sum()), int((a & ~b).sum())))


def mcnemar_p(only_tuned: np.ndarray | int, only_base: np.ndarray | int) -> np.ndarray:
    """The same from the counts of samples that only one model gets right."""
    least = np.minimum(only_tuned, only_base)
    return np.minimum(1.0, 2 * binom.cdf(least, np.add(only_tuned, only_base), 0.5))


def largest_share(hits: int, n: int) -> float:
    """The 95 % upper bound on a share of which `hits` of `n` random draws had it (Clopper-Pearson,
    one-sided).
    """
    return 1.0 if hits >= n else float(beta.ppf(LEVEL, hits + 1, n - hits))
