"""Results of the statistics: values with their intervals, or the reason why there is none."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LEVEL = 0.95
ALPHA = 1 - LEVEL
FEWEST = 6
"""Smallest sample with an interval of its mean: an exact test of five cannot reach p < .05."""

ONE = "one sample gives no interval"
NONE = "no sample could be scored"
ONE_CLUSTER = "all samples belong to one cluster, which gives no interval"
SAME = "the samples are too alike to say how far the value may move"
UNCERTAIN = "what the value is divided by may itself be 0"


def few(n: int, what: str = "samples") -> str:
    """Why `n` samples have no interval, in words; empty where they are enough."""
    if n < 1:
        return NONE
    if n == 1:
        return ONE if what == "samples" else ONE_CLUSTER
    return (
        ""
        if n >= FEWEST
        else f"{n} {what} are too few for an interval that holds; {FEWEST} are needed"
    )


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and 95 % interval.

    - `stderr`, `low`, `high` are NaN where the samples give none; `reason` then says why, in words
    - `n`: number of samples with a score; `left_out`: number of samples whose score is NaN
    - `method`: how the interval is computed
    """

    value: float
    stderr: float
    low: float
    high: float
    n: int
    method: str = ""
    reason: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Difference:
    """Score of `tuned` minus that of `base` on the same samples, with 95 % interval and p.

    Interval and p come from one procedure: the interval excludes 0 exactly where p < .05.

    - `low`, `high`, `p` are NaN where the samples give none; `reason` then says why, in words
    - `n`: number of samples scored by both models; `left_out`: number of the other samples
    - `test`: what p tests; `method`: how the interval is computed
    """

    base: float
    tuned: float
    difference: float
    low: float
    high: float
    p: float
    n: int
    test: str
    method: str = ""
    reason: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Cells:
    """Statistics of every cell of a map.

    - `mean` with its 95 % interval `low`, `high`; NaN where the samples give none
    - `p`: p-value of no effect, corrected over the cells
    - `p_cell`: uncorrected p-value, below .05 exactly where the cell's interval excludes 0
    - `method`: how intervals are computed; `reason`: why no cell has one, else empty
    """

    mean: Float[np.ndarray, "*axes"]
    low: Float[np.ndarray, "*axes"]
    high: Float[np.ndarray, "*axes"]
    p: Float[np.ndarray, "*axes"]
    p_cell: Float[np.ndarray, "*axes"] | None = None
    method: str = ""
    reason: str = ""
