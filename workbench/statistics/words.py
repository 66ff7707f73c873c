"""Intervals as text; a missing interval is spelled out, never printed as numbers."""

import math
from collections.abc import Callable


def bracketed(low: float, high: float, spelt: str | Callable[[float], str] = ".3f") -> str:
    """`[0.120, 0.340]`, or `no interval` where the samples give none.

    Args:
        low: Lower end; NaN where there is none.
        high: Upper end.
        spelt: A format such as `+.3f`, or a function that formats one number.
    """
    if math.isnan(low) or math.isnan(high):
        return "no interval"
    ends = [spelt(x) if callable(spelt) else format(x, spelt) for x in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"
