"""Intervals in words: an interval that the samples do not give is said, never printed as numbers."""

import math
from collections.abc import Callable


def bracketed(low: float, high: float, spelt: str | Callable[[float], str] = ".3f") -> str:
    """`[0.120, 0.340]`, or `no interval` where the samples give none.

    Args:
        low: The lower end, NaN where there is none.
        high: The upper end.
        spelt: A format such as `+.3f`, or a function that spells one number.
    """
    if math.isnan(low) or math.isnan(high):
        return "no interval"
    ends = [spelt(x) if callable(spelt) else format(x, spelt) for x in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"
