"""Intervals of means, and of ratios of means, whose samples may be skewed.

Student's interval is too narrow on one side where samples are skewed. Hall's transformation takes
the skewness out of the t statistic. Each end of the interval is the wider one of the two methods,
so symmetric samples keep Student's interval and skewed ones get one longer arm. Few samples
underestimate their skewness, so it is enlarged by 1 + 4 / n beyond the usual correction; that
factor was chosen by simulated coverage (`docs/intervals.md`). Ratios use Fieller's interval, which
includes the noise of the denominator.

Reference:
    Hall (1992), "On the Removal of Skewness by Transformation".
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
"""Skewness is multiplied by 1 + ENLARGED / n."""
ROUNDING = 1e-12
"""Spread, relative to the samples' size, that counts as rounding error."""


@dataclass(frozen=True)
class Ratios:
    """mean(y) / mean(x) per cell, with standard error, 95 % interval and p of 0 (NaN: none)."""

    value: Float[np.ndarray, " cell"]
    stderr: Float[np.ndarray, " cell"]
    low: Float[np.ndarray, " cell"]
    high: Float[np.ndarray, " cell"]
    p: Float[np.ndarray, " cell"]


def skew_term(samples: Float[np.ndarray, "n cell"]) -> Float[np.ndarray, " cell"]:
    """Hall's a = skewness / sqrt(n), bias-corrected; 0 where samples do not vary."""
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
    """Lower and upper critical t at 5 % for a statistic with skew term `a`."""
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
    """Two-sided p of t statistics: the larger of Student's and Hall's.

    Args:
        statistic: t of each cell.
        a: Skew term of each cell (`skew_term`).
        degrees: Degrees of freedom of Student's t.
    """
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

    p is at least 2 ** (1 - k) where k samples of a cell differ from 0, because a sign-flip test
    cannot give less.

    Args:
        y: Numerator of every cell, one per sample.
        x: Denominator, one per sample, shared by all cells. None is 1, so the ratio is a mean.
        about_0: Make interval and p agree: the interval is extended to 0 where p is .05 or more.
        degrees: Degrees of freedom of Student's t; None is n - 1.
    """
    n = len(y)
    x = np.ones(n) if x is None else x
    if n and x.mean() < 0:  # the same ratio, with a denominator above 0
        y = -y
        x = -x
    nothing = np.full(y.shape[1:], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = y.mean(0) / x.mean() if n else nothing
        residual = y - value * x[:, None]
    if n < 2:
        return Ratios(value, nothing, nothing, nothing, nothing)
    stderr = np.abs(residual.std(0, ddof=1) / np.sqrt(n) / x.mean())
    if n < FEWEST:
        return Ratios(value, stderr, nothing, nothing, nothing)
    fieller = _fieller(y, x, residual, (value, stderr), n - 1 if degrees is None else degrees)
    return _extended_to_0(fieller) if about_0 else fieller


def _fieller(y: Any, x: Any, residual: Any, values: tuple[Any, Any], degrees: float) -> Ratios:
    """Fieller's interval: the r for which mean(y) - r mean(x) does not differ from 0.

    The condition is a quadratic in r: lead r^2 - 2 half r + rest = 0 at the ends.
    """
    n = len(y)
    a = skew_term(residual)
    lower, upper = critical_values(a, degrees)
    mean_y = y.mean(0)  # [cell]
    mean_x = x.mean()
    centred_y = y - mean_y
    centred_x = x - mean_x
    # Variances and covariance of the two means.
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


def _extended_to_0(ratio: Ratios) -> Ratios:
    """The ratios with intervals extended to 0 where p does not reject it."""
    rejected = ratio.p < ALPHA
    low = np.where(rejected, ratio.low, np.minimum(ratio.low, 0))
    high = np.where(rejected, ratio.high, np.maximum(ratio.high, 0))
    return Ratios(ratio.value, ratio.stderr, low, high, ratio.p)


def _alike(samples: Float[np.ndarray, "n cell"]) -> np.ndarray:
    """Whether at most one sample of a cell differs from the others."""
    ordered = np.sort(samples, axis=0)
    return (ordered[0] == ordered[-2]) | (ordered[1] == ordered[-1])


def why_none(ratio: Ratios, n: int, what: str = "samples") -> str:
    """Why a single ratio has no interval, in words; empty where it has one.

    Args:
        ratio: A ratio of one cell.
        n: How many samples or clusters it is over.
        what: What `n` counts, for the sentence.
    """
    if not np.isnan(ratio.low[0]):
        return ""
    return few(n, what) or (SAME if not ratio.stderr[0] > 0 else UNCERTAIN)


def linearised(
    y: Float[np.ndarray, "n cell"], x: Float[np.ndarray, " n"], *, about_0: bool = True
) -> Ratios:
    """mean(y) / mean(x) for weights or sizes `x` above 0, as the mean of the linearised ratio.

    Unlike Fieller's interval this one always exists. Student's t gets the degrees of freedom of
    Kish's effective sample size, sum(x)^2 / sum(x^2), because uneven weights put most of the
    evidence into few samples.

    Args:
        y: Numerator of every cell, one per sample (or cluster).
        x: Weight or size of each sample (or cluster).
        about_0: As for `ratios`.
    """
    value = y.mean(0) / x.mean()
    effective = float(x.sum() ** 2 / (x**2).sum())
    degrees = max(1.0, effective - 1)
    return ratios(value + (y - value * x[:, None]) / x.mean(), about_0=about_0, degrees=degrees)


def estimate_ratio(y: Scores, x: Scores) -> Estimate:
    """mean(y) / mean(x) over the same samples with Fieller's 95 % interval.

    Args:
        y: Numerator, one per sample, such as a part of an effect.
        x: Denominator, one per sample, such as the whole effect; its noise is included.
    """
    numerator = np.asarray(y, dtype=float)
    denominator = np.asarray(x, dtype=float)
    known = ~(np.isnan(numerator) | np.isnan(denominator))
    n = int(known.sum())
    ratio = ratios(numerator[known][:, None], denominator[known], about_0=False)
    return Estimate(
        value=float(ratio.value[0]),
        stderr=float(ratio.stderr[0]),
        low=float(ratio.low[0]),
        high=float(ratio.high[0]),
        n=n,
        method=RATIO,
        reason=why_none(ratio, n),
        left_out=len(known) - n,
    )


def mean_interval(
    samples: Float[np.ndarray, "n *rest"],
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Mean over the first axis, and the low and high end of its 95 % interval.

    The interval is a t interval corrected for skewness (`METHOD`); fewer than six samples have none
    (NaN). It is not extended to 0 where a test of 0 would not reject.
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
