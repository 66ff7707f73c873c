"""What the statistics return: a value, a difference or a map, with its interval, or why it has
none.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LEVEL = 0.95
ALPHA = 1 - LEVEL
FEWEST = 6
"""Samples below which no interval of a mean is printed: no exact test of five samples has a p below
.05.
"""

ONE = "one sample gives no interval"
NONE = "no sample could be scored"
ONE_CLUSTER = "all samples belong to one cluster, which gives no interval"
SAME = "the samples are too alike to say how far the value may move"
UNCERTAIN = "what the value is divided by may itself be 0"


def few(n: int, what: str = "samples") -> str:
    """Why `n` samples have no interval: in words, empty where they are enough."""
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
    - `n`: samples that count; `left_out`: those whose score is NaN
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
    """What `tuned` scores above `base` on the same samples, its 95 % interval, and p of no
    difference.

    Interval and p come from one procedure: the interval leaves 0 out exactly where p < .05.

    - `low`, `high`, `p` are NaN where the samples give none; `reason` then says why, in words
    - `n`: samples that count; `left_out`: those that one of the two has no score for
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
    - `p`: of no effect, corrected over the cells; `p_cell`: of this cell alone, which is below .05
      exactly where its interval leaves 0 out
    - `method`: how intervals are computed; `reason`: why no cell has one, empty where cells have
    """

    mean: Float[np.ndarray, "*axes"]
    low: Float[np.ndarray, "*axes"]
    high: Float[np.ndarray, "*axes"]
    p: Float[np.ndarray, "*axes"]
    p_cell: Float[np.ndarray, "*axes"] | None = None
    method: str = ""
    reason: str = ""
