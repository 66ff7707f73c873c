"""What a number of samples can show: power of the tests that are used, computed exactly."""

import math
from functools import lru_cache

import numpy as np
from scipy.stats import binom, hypergeom, norm

from workbench.errors import WorkbenchError
from workbench.statistics.proportions import mcnemar_p
from workbench.statistics.records import FEWEST

EXACT = {True: 1000, False: 200}
"""Number of samples, by `paired`, up to which power is exact; above it, a normal approximation."""


def too_few(n: int) -> str:
    """Why `n` samples can show no difference, in a sentence; empty where they can."""
    if n >= FEWEST:
        return ""
    items = "1 item" if n == 1 else f"{n} items"
    return (
        f"{items} can show no difference: fewer than {FEWEST} pairs give no p below 0.05, whatever "
        "the answers are."
    )


def minimal_detectable_difference(
    n: int,
    *,
    p: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.05,
    paired: bool = True,
    correlation: float = 0.5,
) -> float:
    """Smallest true difference of two accuracies that `n` samples detect with this power.

    It is computed from the test itself: McNemar's exact test for paired samples, Fisher's exact
    test for unpaired ones. NaN where no difference can be detected with that power, as with fewer
    than six samples.

    Args:
        n: Samples per model.
        p: Accuracy midway between the two models' accuracies.
        power: Probability of detecting the difference.
        alpha: Significance level: probability of detecting one where there is none.
        paired: Whether both models answer the same samples.
        correlation: Correlation of the two models' scores, when paired; a fine-tune and its base
            have 0.5 or more.

    Raises:
        WorkbenchError: When `n` is below 1.
    """
    if n < 1:
        raise WorkbenchError(f"A detectable difference needs at least one sample, not {n}.")
    if n > EXACT[paired]:
        variance = 2 * p * (1 - p) * (1 - correlation if paired else 1)
        continuity = 1 / n  # exact tests step by whole samples
        return (
            float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * math.sqrt(variance / n))
            + continuity
        )
    most = 2 * min(p, 1 - p)

    def reached(difference: float) -> bool:
        return (
            detection_power(n, difference, p=p, alpha=alpha, paired=paired, correlation=correlation)
            >= power
        )

    # Power is not quite monotone in the difference near 0, so look for the last difference that is
    # not detected.
    steps = np.linspace(0, most, 101)[1:]
    shown = [reached(float(step)) for step in steps]
    if not shown[-1]:
        return math.nan
    first = len(shown) - next((i for i, yes in enumerate(reversed(shown)) if not yes), len(shown))
    low = float(steps[first - 1]) if first else 0.0
    high = float(steps[first])
    for _ in range(12):
        middle = (low + high) / 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return high


def detection_power(
    n: int,
    difference: float,
    *,
    p: float = 0.5,
    alpha: float = 0.05,
    paired: bool = True,
    correlation: float = 0.5,
) -> float:
    """Probability that the test detects this true difference of two accuracies.

    Args:
        n: Samples per model.
        difference: True difference of the two accuracies.
        p: Accuracy midway between the two.
        alpha: Significance level.
        paired: Whether both models answer the same samples.
        correlation: Correlation of the two models' scores, when paired.
    """
    first = p - difference / 2
    second = p + difference / 2
    if not paired:
        return _unpaired(n, first, second, alpha)
    both = first * second + correlation * math.sqrt(
        max(first * (1 - first) * second * (1 - second), 0.0)
    )
    both = min(max(both, 0.0, first + second - 1), first)
    only_tuned = second - both
    only_base = first - both
    differing = only_tuned + only_base
    if differing <= 0:
        return 0.0
    counts = np.arange(n + 1)  # pairs that differ
    above, below = _rejected(n, alpha)
    share = only_tuned / differing
    shown = binom.sf(above - 1, counts, share) + binom.cdf(below, counts, share)
    return float((binom.pmf(counts, n, differing) * shown).sum())


@lru_cache(maxsize=32)
def _rejected(n: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """McNemar's rejection bounds (above, below) on the pairs that one model wins.

    Entry k is for k differing pairs: the test rejects from `above[k]` up and from `below[k]` down.
    """
    counts = np.arange(n + 1)
    below = binom.ppf(alpha / 2, counts, 0.5).astype(int)
    below = np.where(mcnemar_p(below, counts - below) < alpha, below, below - 1)
    return counts - below, below


def _unpaired(n: int, first: float, second: float, alpha: float) -> float:
    return float(
        binom.pmf(np.arange(n + 1), n, first)
        @ _fisher(n, alpha)
        @ binom.pmf(np.arange(n + 1), n, second)
    )


@lru_cache(maxsize=8)
def _fisher(n: int, alpha: float) -> np.ndarray:
    """`[i, j]`: whether Fisher's exact test rejects that i of n and j of n have the same share."""
    right = np.arange(n + 1)
    rejected = np.zeros((n + 1, n + 1), dtype=bool)
    for total in range(1, 2 * n):
        i = right[max(0, total - n) : min(n, total) + 1]
        chance = hypergeom.pmf(i, 2 * n, total, n)
        order = np.argsort(chance)
        summed = np.cumsum(chance[order])
        # All tables as unlikely as this one count.
        last = np.searchsorted(chance[order], chance * (1 + 1e-7), side="right") - 1
        rejected[i, total - i] = summed[last] < alpha
    return rejected
