"""Differences of two shares that were measured on different samples."""

import math
from typing import Any

from scipy.stats import fisher_exact

from workbench.statistics.proportions import Z, wilson
from workbench.statistics.records import ALPHA, Difference, few

FISHER = "Fisher exact"
NEWCOMBE = "Newcombe 1998, hybrid score"


def unpaired_shares(hits: tuple[int, int], n: tuple[int, int]) -> Difference:
    """The difference of two shares over two groups of samples, the second group minus the first.

    The p-value is of Fisher's exact test. The interval is Newcombe's hybrid of two Wilson
    intervals, extended to 0 where that test does not reject a difference of 0. The `n` of the
    result counts both groups.

    Args:
        hits: Hits in the first and in the second group.
        n: Samples in the first and in the second group.

    Reference:
        Newcombe (1998), "Interval Estimation for the Difference Between Independent Proportions",
        method 10.
    """
    total = sum(n)
    nan = math.nan
    if min(n) < 2:
        base = hits[0] / n[0] if n[0] else nan
        tuned = hits[1] / n[1] if n[1] else nan
        reason = few(min(n))
        gap = tuned - base
        return Difference(base, tuned, gap, nan, nan, nan, total, FISHER, NEWCOMBE, reason)
    base = hits[0] / n[0]
    tuned = hits[1] / n[1]
    base_low, base_high = wilson(base, n[0], Z)
    tuned_low, tuned_high = wilson(tuned, n[1], Z)
    difference = tuned - base
    low = difference - math.hypot(tuned - tuned_low, base_high - base)
    high = difference + math.hypot(tuned_high - tuned, base - base_low)
    misses = [many - hit for hit, many in zip(hits, n, strict=True)]
    test: Any = fisher_exact([list(hits), misses])  # scipy's stub does not know its parts
    p = float(test.pvalue)
    if p >= ALPHA:
        low = min(low, 0.0)
        high = max(high, 0.0)
    return Difference(base, tuned, difference, low, high, p, total, FISHER, NEWCOMBE)
