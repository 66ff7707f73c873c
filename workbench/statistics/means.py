"""Means and ratios of means whose samples may be skewed: Student's t beside Hall's
skewness-corrected t.

Student's interval is too narrow on one side where samples are skewed. Hall's transformation (1992,
"On the removal of skewness by transformation") takes the skewness out of the t statistic. Of the
two the wider end is taken on either side, so that symmetric samples keep Student's interval and
skewed ones get a longer arm. Skewness is estimated too small from few samples, so it is enlarged by
1 + 4 / n beyond the usual correction; that factor was chosen by simulated coverage
(`docs/intervals.md`). Ratios are Fieller's: the denominator's noise counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.statistics.records import ALPHA, FEWEST, SAME, UNCERTAIN, Estimate, few

Scores = Sequence[float] | np.ndarray
METHOD = "t corrected for skewness (Student and Hall 1992)"
RATIO = "Fieller's ratio interval, t corrected for skewness"
WEIGHTED = "t of the linearised ratio, corrected for skewness"
ENLARGED = 4.0
ROUNDING = 1e-12
"""Spread, as a share of the samples' size, that is no more than rounding."""


@dataclass(frozen=True)
class Ratios:
    """mean(y) / mean(x) of every cell: value, standard error, 95 % interval and p of 0, NaN where
    there is none.
    """

    value: Float[np.ndarray, " cell"]
    stderr: Float[np.ndarray, " cell"]
    low: Float[np.ndarray, " cell"]
    high: Float[np.ndarray, " cell"]
    p: Float[np.ndarray, " cell"]


def skew_term(samples: Float[np.ndarray, "n cell"]) -> Float[np.ndarray, " cell"]:
    """Hall's a = skewness / sqrt(n), with the skewness corrected for few samples; 0 where samples
    do not vary.
    """
    n = len(samples)
    centred = samples - samples.mean(0)
    spread = np.sqrt((centred**2).mean(0))
    skewness = np.divide(
        (centred**3).mean(0), spread**3, out=np.zeros_like(spread), where=spread > 0
    )
    return skewness * np.sqrt(n * (n - 1)) / (n - 2) * (1 + ENLARGED / n) / np.sqrt(n)


def critical_values(
    a: Float[np.ndarray, " cell"], degrees: float
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """The lower and upper t between which a statistic with skew term `a` is not significant at 5 %."""
    from scipy.stats import t

    student = float(t.ppf(1 - ALPHA / 2, degrees))
    safe = np.where(np.abs(a) < 1e-8, 1e-8, a)
    lower, upper = (
        3 / safe * (np.cbrt(1 + safe * (y - safe / 6)) - 1) for y in (-student, student)
    )
    return np.minimum(lower, -student), np.maximum(upper, student)


def p_values(
    statistic: Float[np.ndarray, " cell"], a: Float[np.ndarray, " cell"], degrees: float
) -> Float[np.ndarray, " cell"]:
    """Two-sided p of t statistics: the larger of Student's and Hall's."""
    from scipy.stats import t

    safe = np.where(np.abs(a) < 1e-8, 1e-8, a)
    hall = ((1 + safe * statistic / 3) ** 3 - 1) / safe + safe / 6
    return 2 * t.sf(np.minimum(np.abs(statistic), np.abs(hall)), degrees)


def ratios(
    y: Float[np.ndarray, "n cell"],
    x: Float[np.ndarray, " n"] | None = None,
    *,
    about_0: bool = True,
    degrees: float | None = None,
) -> Ratios:
    """mean(y) / mean(x) of every cell with Fieller's interval, and p that mean(y) is 0.

    p is at least 2 ** (1 - k), k samples of a cell being other than 0: a sign-flip test cannot give
    less.

    Args:
        y: Samples of every cell's numerator.
        x: Samples of the denominator, the same for all cells; None is 1, which makes the ratio a
            mean.
        about_0: Whether 0 is a question: an interval is then drawn out to 0 where p is .05 or more.
        degrees: Of freedom of Student's t; None is n - 1.
    """
    n = len(y)
    x = np.ones(n) if x is None else x
    if n and x.mean() < 0:
        y, x = -y, -x
    nothing = np.full(y.shape[1:], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = y.mean(0) / x.mean() if n else nothing
        residual = y - value * x[:, None]
    if n < 2:
        return Ratios(value, nothing, nothing, nothing, nothing)
    stderr = np.abs(residual.std(0, ddof=1) / np.sqrt(n) / x.mean())
    if n < FEWEST:
        return Ratios(value, stderr, nothing, nothing, nothing)
    found = _fieller(y, x, residual, (value, stderr), n - 1 if degrees is None else degrees)
    return _holding_0(found) if about_0 else found


def _fieller(y: Any, x: Any, residual: Any, values: tuple[Any, Any], degrees: float) -> Ratios:
    n = len(y)
    a = skew_term(residual)
    lower, upper = critical_values(a, degrees)
    mean_y, mean_x = y.mean(0), x.mean()
    centred_y, centred_x = y - mean_y, x - mean_x
    v_yy = (centred_y**2).sum(0) / (n - 1) / n
    v_xy = (centred_y * centred_x[:, None]).sum(0) / (n - 1) / n
    v_xx = (centred_x**2).sum() / (n - 1) / n
    ends = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for critical, side in ((upper, -1), (lower, 1)):
            lead = mean_x**2 - critical**2 * v_xx
            half = mean_y * mean_x - critical**2 * v_xy
            root = np.sqrt(np.maximum(half**2 - lead * (mean_y**2 - critical**2 * v_yy), 0))
            ends.append(np.where(lead > 0, (half + side * root) / lead, np.nan))
        statistic = mean_y / np.sqrt(v_yy)
        p = p_values(statistic, a, degrees)
    other_than_0 = (y != 0).sum(0)
    p = np.where(v_yy > 0, p, 0.0)
    p = np.maximum(p, np.minimum(1.0, 2.0 ** (1 - other_than_0)))
    p = np.where(np.isfinite(mean_y), p, np.nan)
    rounding = residual.std(0) <= ROUNDING * np.abs(y).max(0)
    none = _alike(residual) | rounding | np.isnan(ends[0]) | np.isnan(ends[1])
    low, high = (np.where(none, np.nan, end) for end in ends)
    return Ratios(*values, low, high, p)


def _holding_0(found: Ratios) -> Ratios:
    """Intervals drawn out to 0 where p does not reject it."""
    rejected = found.p < ALPHA
    low = np.where(rejected, found.low, np.minimum(found.low, 0))
    high = np.where(rejected, found.high, np.maximum(found.high, 0))
    return Ratios(found.value, found.stderr, low, high, found.p)


def _alike(samples: Float[np.ndarray, "n cell"]) -> np.ndarray:
    """Where fewer than two samples are other than the commonest one."""
    ordered = np.sort(samples, axis=0)
    return (ordered[0] == ordered[-2]) | (ordered[1] == ordered[-1])


def why_none(found: Ratios, n: int, what: str = "samples") -> str:
    """Why a single ratio has no interval, in words; empty where it has one."""
    if not np.isnan(found.low[0]):
        return ""
    return few(n, what) or (SAME if not found.stderr[0] > 0 else UNCERTAIN)


def linearised(
    y: Float[np.ndarray, "n cell"], x: Float[np.ndarray, " n"], *, about_0: bool = True
) -> Ratios:
    """mean(y) / mean(x) where x are weights or sizes, which are above 0: a mean of the linearised
    ratio.

    Unlike Fieller's interval this one always exists; `ratios` tells the rest. Student's t has the
    degrees of freedom of Kish's effective sample size, sum(x)^2 / sum(x^2), as few heavy samples
    carry most of an uneven weight.
    """
    value = y.mean(0) / x.mean()
    effective = float(x.sum() ** 2 / (x**2).sum())
    degrees = max(1.0, effective - 1)
    return ratios(value + (y - value * x[:, None]) / x.mean(), about_0=about_0, degrees=degrees)


def estimate_ratio(y: Scores, x: Scores) -> Estimate:
    """mean(y) / mean(x) over the same samples, such as a share of an effect, with Fieller's 95 %
    interval.

    Args:
        y: The numerator, one a sample.
        x: The denominator, one a sample; its noise counts.
    """
    top, bottom = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
    known = ~(np.isnan(top) | np.isnan(bottom))
    found = ratios(top[known][:, None], bottom[known], about_0=False)
    n = int(known.sum())
    value, stderr, low, high = (
        float(v[0]) for v in (found.value, found.stderr, found.low, found.high)
    )
    return Estimate(value, stderr, low, high, n, RATIO, why_none(found, n), len(known) - n)


def mean_interval(
    samples: Float[np.ndarray, "n *rest"],
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Mean over the first axis with its 95 % interval (low, high), as `METHOD`; fewer than six
    samples have none (NaN).

    The p that a mean is 0 has no part in it.
    """
    shape = samples.shape[1:]
    flat = np.ascontiguousarray(samples.reshape(len(samples), -1), dtype=np.float64)
    mean, low, high = interval_of_means(flat)
    return mean.reshape(shape), low.reshape(shape), high.reshape(shape)


def interval_of_means(
    flat: Float[np.ndarray, "n cell"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of every cell with its interval (low, high)."""
    n = len(flat)
    mean = flat.mean(0)
    if n < FEWEST:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    stderr = flat.std(0, ddof=1) / np.sqrt(n)
    lower, upper = critical_values(skew_term(flat), n - 1)
    alike = _alike(flat)
    return (
        mean,
        np.where(alike, np.nan, mean - upper * stderr),
        np.where(alike, np.nan, mean - lower * stderr),
    )
