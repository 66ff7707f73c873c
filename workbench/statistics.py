"""Intervals, paired tests and detectable differences (after Miller 2024, "Adding Error Bars to Evals").

Scores are one number a sample. A weighted mean (bits per byte, by bytes) is the ratio sum(w s) / sum(w).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import WorkbenchError

Scores = Sequence[float] | np.ndarray
RESAMPLES = 9_999
CELLS_AT_ONCE = 4_000_000
ALMOST_ONE = 1 - 1e-12
"""A correlation that arctanh can take."""


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and 95 % interval; NaN where one sample gives none."""

    value: float
    stderr: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """What `tuned` scores above `base` on the same samples, its 95 % interval, and p of no difference."""

    base: float
    tuned: float
    difference: float
    low: float
    high: float
    p: float
    n: int
    test: str


def mean_interval(
    samples: Float[np.ndarray, "n *rest"],
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Mean over the first axis with its 95 % Student interval (low, high); one sample has no interval (NaN)."""
    from scipy.stats import t

    n = len(samples)
    mean = samples.mean(0)
    half = samples.std(0, ddof=1) / np.sqrt(n) * t.ppf(0.975, n - 1) if n > 1 else np.full(mean.shape, np.nan)
    return mean, mean - half, mean + half


def estimate_mean(scores: Scores, clusters: Sequence[Any] | None = None) -> Estimate:
    """Mean with the sample standard error; interval by Wilson for 0/1 scores, by the bootstrap otherwise.

    Args:
        scores: One a sample.
        clusters: What samples belong to, such as their passage; samples of one are no independent evidence, so the
            standard error is the clustered one (Miller 2024, equation 4) and the bootstrap draws whole clusters.
    """
    x = np.asarray(scores, dtype=float)
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else math.nan, math.nan, math.nan, math.nan, len(x))
    numbers = _numbered(clusters, len(x))
    if numbers is not None:
        sums = np.bincount(numbers, x - x.mean())
        if len(sums) < 2:
            return Estimate(float(x.mean()), math.nan, math.nan, math.nan, len(x))
        stderr = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / len(x)
        low, high = _percentiles(_resampled_means(x, np.ones_like(x), seed=0, clusters=numbers))
    elif _binary(x):
        from statsmodels.stats.proportion import proportion_confint

        stderr = float(x.std(ddof=1) / math.sqrt(len(x)))
        interval: Any = proportion_confint(int(x.sum()), len(x), method="wilson")
        low, high = interval
    else:
        stderr = float(x.std(ddof=1) / math.sqrt(len(x)))
        low, high = _percentiles(_resampled_means(x, np.ones_like(x), seed=0))
    return Estimate(float(x.mean()), stderr, float(low), float(high), len(x))


def estimate_aggregate(items: Sequence[Any], aggregate: Callable[[list[Any]], float]) -> Estimate:
    """Any other aggregate (perplexity, F1): standard error and percentile interval by the bootstrap."""
    n = len(items)
    value = float(aggregate(list(items)))
    if n < 2:
        return Estimate(value, math.nan, math.nan, math.nan, n)
    rng = np.random.default_rng(0)
    rounds = max(200, min(1000, 1_000_000 // n))
    drawn = np.array([aggregate([items[i] for i in rng.integers(0, n, n)]) for _ in range(rounds)])
    low, high = _percentiles(drawn)
    return Estimate(value, float(drawn.std(ddof=1)), low, high, n)


def paired_difference(
    base: Scores,
    tuned: Scores,
    *,
    weights: Scores | None = None,
    clusters: Sequence[Any] | None = None,
    seed: int = 0,
) -> Difference:
    """Difference of two means over the same samples.

    The interval is a paired percentile bootstrap; p is McNemar's exact test for unweighted 0/1 scores, a
    sign-flip permutation test (9,999 draws) for all others. Equal scores give exactly 0 and p = 1.

    Args:
        base: Scores of the first model.
        tuned: Scores of the second model on the same samples, in the same order.
        weights: Of the samples, shared by both; None for a plain mean.
        clusters: What samples belong to, such as their passage; then whole clusters are drawn and flipped.
        seed: Of the bootstrap and the permutations.
    """
    a, b = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    w = np.ones_like(a) if weights is None else np.asarray(weights, dtype=float)
    if len(a) != len(b) or not len(a):
        raise WorkbenchError(f"A paired difference needs equally many scores, at least one; got {len(a)} and {len(b)}.")
    d = b - a
    numbers = _numbered(clusters, len(d))
    if numbers is not None:
        test, p = "sign-flip permutation of clusters", sign_flip(np.bincount(numbers, d * w), seed=seed)
    elif _binary(a) and _binary(b) and (w == w[0]).all():
        test, p = "McNemar exact", mcnemar(a, b)
    else:
        test, p = "sign-flip permutation", sign_flip(d * w, seed=seed)
    low, high = _percentiles(_resampled_means(d, w, seed=seed, clusters=numbers))
    means = [float((x * w).sum() / w.sum()) for x in (a, b, d)]
    return Difference(means[0], means[1], means[2], low, high, p, len(a), test)


def paired_counts(
    base: Float[np.ndarray, "n k"],
    tuned: Float[np.ndarray, "n k"],
    aggregate: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int = 0,
) -> Difference:
    """Difference of a score of summed counts, such as F1, over the same samples.

    The interval is a paired percentile bootstrap over samples; p is approximate randomisation (Noreen 1989): the two
    models' counts of a sample are swapped at random, 9,999 times. Equal counts give exactly 0 and p = 1.

    Args:
        base: Counts of each sample under the first model.
        tuned: Under the second, in the same order.
        aggregate: From sums `[..., k]` to scores `[...]`.
        seed: Of the bootstrap and the swaps.
    """
    a, b = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    if a.shape != b.shape or not len(a):
        raise WorkbenchError(f"A paired difference needs equally many samples; got {len(a)} and {len(b)}.")
    n, rng = len(a), np.random.default_rng(seed)
    rounds = max(1, CELLS_AT_ONCE // n)
    drawn, swapped = [], []
    for start in range(0, RESAMPLES, rounds):
        size = min(rounds, RESAMPLES - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), size).astype(float)
        drawn.append(aggregate(weights @ b) - aggregate(weights @ a))
        moved = rng.integers(0, 2, (size, n)) @ (b - a)
        swapped.append(aggregate(b.sum(0) - moved) - aggregate(a.sum(0) + moved))
    values = [float(aggregate(x.sum(0))) for x in (a, b)]
    difference = values[1] - values[0]
    low, high = _percentiles(np.concatenate(drawn))
    as_far = np.abs(np.concatenate(swapped)) >= abs(difference) - 1e-12
    p = (1 + float(as_far.sum())) / (1 + RESAMPLES)
    return Difference(values[0], values[1], difference, low, high, p, n, "approximate randomisation")


def mcnemar(base: Scores, tuned: Scores) -> float:
    """Exact two-sided p that the samples only one of two models gets right fall evenly on both."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    a, b = np.asarray(base, dtype=bool), np.asarray(tuned, dtype=bool)
    if not (a ^ b).any():
        return 1.0
    table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
    return float(test(table, exact=True).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def sign_flip(differences: Scores, *, seed: int = 0) -> float:
    """Two-sided p that paired differences are symmetric about 0: exact to 13 samples, else 9,999 draws."""
    from scipy.stats import permutation_test

    d = np.asarray(differences, dtype=float)
    if not d.any():
        return 1.0
    result = permutation_test(
        (d, np.zeros_like(d)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, CELLS_AT_ONCE // len(d)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


@dataclass(frozen=True)
class Cells:
    """Statistics of every cell of a map: mean, 95 % percentile interval, and p of no effect, corrected over cells."""

    mean: Float[np.ndarray, "*axes"]
    low: Float[np.ndarray, "*axes"]
    high: Float[np.ndarray, "*axes"]
    p: Float[np.ndarray, "*axes"]


def cell_statistics(samples: Float[np.ndarray, "n *axes"], *, seed: int = 0, resamples: int = 4_999) -> Cells:
    """Bootstrap interval and sign-flip p (two-sided, Benjamini-Hochberg over the cells) of maps over `n` samples.

    All cells share the draws. A cell that is 0 in every sample has p = 1; one sample has no interval (NaN), and p = 1.
    """
    n, shape = len(samples), samples.shape[1:]
    flat = np.ascontiguousarray(samples.reshape(n, -1), dtype=np.float64)
    mean = flat.mean(0)
    if n < 2:
        nothing = np.full(shape, np.nan)
        return Cells(mean.reshape(shape), nothing, nothing, np.ones(shape))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, np.full(n, 1 / n), resamples) / n
    signs = rng.choice((-1.0, 1.0), (resamples, n)) / n
    low, high, p = (np.empty_like(mean) for _ in range(3))
    size = max(1, CELLS_AT_ONCE // resamples)
    for start in range(0, flat.shape[1], size):
        part = slice(start, start + size)
        low[part], high[part] = np.percentile(drawn @ flat[:, part], (2.5, 97.5), axis=0)
        beyond = np.abs(signs @ flat[:, part]) >= np.abs(mean[part]) * (1 - 1e-9)
        p[part] = (beyond.sum(0) + 1) / (resamples + 1)
    p = np.where(flat.any(0), p, 1.0)
    adjusted = np.array(benjamini_hochberg(p))
    return Cells(*(x.reshape(shape) for x in (mean, low, high, adjusted)))


def map_correlation(
    a: Float[np.ndarray, "n *axes"], b: Float[np.ndarray, "n *axes"], *, seed: int = 0, resamples: int = 1_999
) -> Estimate:
    """Pearson correlation, over the cells, of two mean maps of the same `n` samples.

    The interval is Fisher's: arctanh(r) with the standard error that a bootstrap over samples gives it. (Percentiles
    would lie below r, since samples drawn anew are noisier than those that were seen.) Cells that are 0 in all samples
    of both maps are left out; fewer than three cells have no correlation (NaN).
    """
    n = len(a)
    x, y = (side.reshape(n, -1).astype(float) for side in (a, b))
    told = (x != 0).any(0) | (y != 0).any(0)
    x, y = x[:, told], y[:, told]
    if x.shape[1] < 3:
        return Estimate(math.nan, math.nan, math.nan, math.nan, n)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples) / n
    value, drawn = _pearson(x.mean(0)[None], y.mean(0)[None])[0], _pearson(weights @ x, weights @ y)
    if n < 2:
        return Estimate(float(value), math.nan, math.nan, math.nan, n)
    z, spread = (np.arctanh(r.clip(-ALMOST_ONE, ALMOST_ONE)) for r in (value, drawn))
    half = 1.96 * spread.std(ddof=1)
    return Estimate(float(value), float(drawn.std(ddof=1)), float(np.tanh(z - half)), float(np.tanh(z + half)), n)


def _pearson(x: Float[np.ndarray, "draw cell"], y: Float[np.ndarray, "draw cell"]) -> Float[np.ndarray, " draw"]:
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    size = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), size, out=np.full(len(x), np.nan), where=size > 0)


def gain_shares(
    values: Float[np.ndarray, "cell n"],
    base: Float[np.ndarray, " n"],
    tuned: Float[np.ndarray, " n"],
    *,
    seed: int = 0,
    resamples: int = 4_999,
) -> Cells:
    """What share of the gain from `base` to `tuned` each cell's model has: 0 is base, 1 tuned; paired over samples.

    A share is a ratio of means, mean(values - base) / mean(tuned - base); it may be below 0 or above 1. Its interval is
    the percentile bootstrap of the ratio over samples, numerator and denominator drawn together; p is the sign-flip p
    that the cell is no better than base, corrected over cells (Benjamini-Hochberg). Where the gain's own interval
    holds 0 a share says nothing: all are NaN.
    """
    n = len(base)
    nothing = np.full(len(values), np.nan)
    moved, gain = np.asarray(values, float) - base, np.asarray(tuned, float) - base
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, np.full(n, 1 / n), resamples) / n
    whole = drawn @ gain
    low, high = _percentiles(whole)
    if n < 2 or low <= 0 <= high:
        return Cells(nothing, nothing, nothing, nothing)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn @ moved.T) / whole[:, None]
    low, high = np.nanpercentile(ratios, (2.5, 97.5), axis=0)
    return Cells(moved.mean(1) / gain.mean(), low, high, cell_statistics(moved.T, seed=seed).p)


def benjamini_hochberg(p_values: Scores) -> list[float]:
    """P-values adjusted for looking at several tasks (false discovery rate)."""
    from statsmodels.stats.multitest import multipletests

    if not len(p_values):
        return []
    adjusted: Any = multipletests(p_values, method="fdr_bh")[1]
    return [float(p) for p in adjusted]


def largest_share(hits: int, n: int) -> float:
    """The 95 % upper bound on a share of which `hits` of `n` random draws had it (Clopper-Pearson, one-sided)."""
    from scipy.stats import beta

    return 1.0 if hits >= n else float(beta.ppf(0.95, hits + 1, n - hits))


def minimal_detectable_difference(
    n: int,
    *,
    p: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.05,
    paired: bool = True,
    correlation: float = 0.5,
) -> float:
    """Smallest true difference of two accuracies that `n` samples show with this power at level `alpha`.

    Args:
        n: Samples (a model).
        p: Accuracy about which the two lie.
        power: Chance to see the difference.
        alpha: Chance to see one where there is none.
        paired: Whether both models answer the same samples.
        correlation: Of the two models' scores, when paired; a fine-tune and its base have 0.5 or more.
    """
    from scipy.stats import norm

    if n < 1:
        raise WorkbenchError(f"A detectable difference needs at least one sample, not {n}.")
    variance = 2 * p * (1 - p) * (1 - correlation if paired else 1)
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * math.sqrt(variance / n))


def _binary(x: np.ndarray) -> bool:
    return bool(np.isin(x, (0.0, 1.0)).all())


def _numbered(clusters: Sequence[Any] | None, n: int) -> np.ndarray | None:
    """The clusters' numbers, None where there are none or every sample is its own."""
    if clusters is None:
        return None
    found, numbers = np.unique(np.asarray([str(cluster) for cluster in clusters]), return_inverse=True)
    return numbers if len(found) < n else None


def _resampled_means(
    x: np.ndarray, weights: np.ndarray, *, seed: int, clusters: np.ndarray | None = None
) -> np.ndarray:
    total = x * weights
    if clusters is not None:
        total, weights = np.bincount(clusters, total), np.bincount(clusters, weights)
    rng = np.random.default_rng(seed)
    rounds = max(1, CELLS_AT_ONCE // len(total))
    means = []
    for start in range(0, RESAMPLES, rounds):
        drawn = rng.integers(0, len(total), (min(rounds, RESAMPLES - start), len(total)))
        means.append(total[drawn].sum(1) / weights[drawn].sum(1))
    return np.concatenate(means)


def _percentiles(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
