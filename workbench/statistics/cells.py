"""Statistics of maps, such as layer x position: intervals per cell, and how alike two maps are."""

import math

import numpy as np
from jaxtyping import Float

from workbench.statistics.means import METHOD, RATIO, ratios
from workbench.statistics.multiple import benjamini_hochberg
from workbench.statistics.paired import paired_difference
from workbench.statistics.records import ALPHA, Cells, Estimate, few
from workbench.statistics.tails import skewed_p

NO_GAIN = "the gain itself is not shown, so there is nothing to have a share of"
"""The reason given where `tuned` is not significantly better than `base`."""


def cell_statistics(
    samples: Float[np.ndarray, "n *axes"],
    *,
    per: Float[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Cells:
    """Mean, interval and p-value of every cell of a map.

    The p-values are corrected over the cells (Benjamini-Hochberg). Before that, each is raised to
    at least the p that a t statistic of this size has in skewed samples (`tails`), because
    Student's t is too optimistic far out in the tail, where maps of many cells are decided.

    A cell that is 0 in every sample has p = 1. Cells whose samples are all equal have no interval
    (NaN). Fewer than six samples give neither intervals nor p-values.

    Args:
        samples: One map per sample.
        per: Divide each cell's mean by the mean of this, one number per sample (e.g. the total
            effect). Its noise is included (Fieller's interval). None divides by nothing.
        seed: Not used, because nothing is drawn at random.
    """
    shape = samples.shape[1:]
    flat = np.ascontiguousarray(samples.reshape(len(samples), -1), dtype=np.float64)
    cells = ratios(flat, None if per is None else np.asarray(per, dtype=np.float64))
    adjusted = np.array(benjamini_hochberg(_tail_corrected(flat, cells.p)))
    return Cells(
        mean=cells.value.reshape(shape),
        low=cells.low.reshape(shape),
        high=cells.high.reshape(shape),
        p=adjusted.reshape(shape),
        p_cell=cells.p.reshape(shape),
        method=METHOD if per is None else RATIO,
        reason=few(len(samples)),
    )


def _tail_corrected(
    flat: Float[np.ndarray, "n cell"], p: Float[np.ndarray, " cell"]
) -> Float[np.ndarray, " cell"]:
    """Each cell's p, raised to what skewed samples would give; a single cell is left alone."""
    n, n_cells = flat.shape
    if n < 2 or n_cells < 2:
        return p
    error = flat.std(0, ddof=1) / np.sqrt(n)
    statistic = np.divide(flat.mean(0), error, out=np.zeros_like(error), where=error > 0)
    return np.where(np.isnan(p), np.nan, np.maximum(p, skewed_p(statistic, n)))


def map_correlation(
    a: Float[np.ndarray, "n *axes"], b: Float[np.ndarray, "n *axes"], *, seed: int = 0
) -> Estimate:
    """Pearson correlation over the cells of two mean maps, without an interval.

    There is no interval because noise makes the two sample maps less alike than the true ones, so
    an interval around the observed correlation misses the true one: bootstrap intervals covered it
    in a third of the cases at n = 10. Cells that are 0 in every sample of both maps are left out;
    fewer than three remaining cells give NaN.

    Args:
        a: First map, one per sample.
        b: Second map of the same samples, in the same order.
        seed: Not used, because nothing is drawn at random.
    """
    n = len(a)
    flat_a = a.reshape(n, -1)
    flat_b = b.reshape(n, -1)
    varies = (flat_a != 0).any(0) | (flat_b != 0).any(0)
    x = flat_a.astype(float).mean(0)[varies]
    y = flat_b.astype(float).mean(0)[varies]
    reason = "a correlation of mean maps has no interval that holds; it describes these samples"
    value = math.nan
    if len(x) < 3:
        reason = "fewer than three cells differ from 0"
    else:
        x = x - x.mean()
        y = y - y.mean()
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
    """Share of the gain from `base` (0) to `tuned` (1) that each cell's model reaches.

    A share is the ratio mean(values - base) / mean(tuned - base), paired over samples; it may be
    below 0 or above 1. Its interval is Fieller's, which includes the noise of the gain itself. p
    tests that the cell is no better than base, corrected over cells (Benjamini-Hochberg). Where
    `paired_difference` does not find the gain significant at 5 %, a share means nothing and all
    values are NaN.

    Args:
        values: Scores of each cell's model, in the sample order of `base`.
        base: Scores of the model that counts as 0.
        tuned: Scores of the model that counts as 1.
        seed: Not used, because nothing is drawn at random.
    """
    base = np.asarray(base, dtype=float)
    tuned = np.asarray(tuned, dtype=float)
    nothing = np.full(len(values), np.nan)
    if not paired_difference(base, tuned).p < ALPHA:
        return Cells(nothing, nothing, nothing, nothing, nothing, RATIO, few(len(base)) or NO_GAIN)
    return cell_statistics((np.asarray(values, dtype=float) - base).T, per=tuned - base)
