"""Maps over samples: every cell's mean or share with its interval, and what two maps have in
common.
"""

import math

import numpy as np
from jaxtyping import Float

from workbench.statistics.means import METHOD, RATIO, ratios
from workbench.statistics.multiple import benjamini_hochberg
from workbench.statistics.paired import paired_difference
from workbench.statistics.records import ALPHA, Cells, Estimate, few
from workbench.statistics.tails import skewed_p

NO_GAIN = "the gain itself is not shown, so there is nothing to have a share of"


def cell_statistics(
    samples: Float[np.ndarray, "n *axes"],
    *,
    per: Float[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Cells:
    """Mean of every cell over `n` samples with its interval, and p of no effect (Benjamini-Hochberg
    over the cells).

    What is corrected over cells is at least the p that so large a t would have in skewed samples
    (`tails`): far out, where many cells are compared, Student's t is not to be trusted.

    A cell that is 0 in every sample has p = 1; cells whose samples are all alike have no interval
    (NaN), and fewer than six samples give neither interval nor p.

    Args:
        samples: The maps.
        per: What a cell's mean is divided by, one number a sample, such as the effect of the whole;
            its noise counts (Fieller's interval). None leaves the mean as it is.
        seed: Not used: nothing is drawn at random.
    """
    shape = samples.shape[1:]
    flat = np.ascontiguousarray(samples.reshape(len(samples), -1), dtype=np.float64)
    found = ratios(flat, None if per is None else np.asarray(per, dtype=np.float64))
    adjusted = np.array(benjamini_hochberg(_far_out(flat, found.p)))
    maps = [part.reshape(shape) for part in (found.value, found.low, found.high, adjusted, found.p)]
    return Cells(*maps, METHOD if per is None else RATIO, few(len(samples)))


def _far_out(
    flat: Float[np.ndarray, "n cell"], p: Float[np.ndarray, " cell"]
) -> Float[np.ndarray, " cell"]:
    """The p of every cell, no smaller than in skewed samples; a single cell keeps its own."""
    n, n_cells = flat.shape
    if n < 2 or n_cells < 2:
        return p
    error = flat.std(0, ddof=1) / np.sqrt(n)
    statistic = np.divide(flat.mean(0), error, out=np.zeros_like(error), where=error > 0)
    return np.where(np.isnan(p), np.nan, np.maximum(p, skewed_p(statistic, n)))


def map_correlation(
    a: Float[np.ndarray, "n *axes"], b: Float[np.ndarray, "n *axes"], *, seed: int = 0
) -> Estimate:
    """Pearson correlation, over the cells, of two mean maps of the same `n` samples; it has no
    interval.

    Noise of few samples makes two maps less alike than the models' own are, so an interval about
    the correlation seen
    does not hold the true one: bootstraps covered it in a third of the cases at n = 10. Cells that
        are 0 in all samples
    of both maps are left out; fewer than three cells have no correlation (NaN).
    """
    n = len(a)
    x, y = (side.reshape(n, -1).astype(float).mean(0) for side in (a, b))
    varies = (a.reshape(n, -1) != 0).any(0) | (b.reshape(n, -1) != 0).any(0)
    x, y = x[varies], y[varies]
    reason = "a correlation of mean maps has no interval that holds; it describes these samples"
    value = math.nan
    if len(x) < 3:
        reason = "fewer than three cells differ from 0"
    else:
        x, y = x - x.mean(), y - y.mean()
        size = math.sqrt(float((x**2).sum() * (y**2).sum()))
        value = float((x * y).sum()) / size if size > 0 else math.nan
    return Estimate(value, math.nan, math.nan, math.nan, n, "none", reason)


def gain_shares(
    values: Float[np.ndarray, "cell n"],
    base: Float[np.ndarray, " n"],
    tuned: Float[np.ndarray, " n"],
    *,
    seed: int = 0,
) -> Cells:
    """What share of the gain from `base` to `tuned` each cell's model has: 0 is base, 1 tuned;
    paired over samples.

    A share is a ratio of means, mean(values - base) / mean(tuned - base); it may be below 0 or
    above 1. Its interval is Fieller's, so that the gain's own noise counts; p is that the cell is
    no better than base, corrected over cells (Benjamini-Hochberg). Where `paired_difference` does
    not show the gain at 5 % a share says nothing: all are NaN.
    """
    base, tuned = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    nothing = np.full(len(values), np.nan)
    if not paired_difference(base, tuned).p < ALPHA:
        return Cells(nothing, nothing, nothing, nothing, nothing, RATIO, few(len(base)) or NO_GAIN)
    return cell_statistics((np.asarray(values, dtype=float) - base).T, per=tuned - base)
