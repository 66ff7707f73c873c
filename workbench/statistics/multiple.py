"""Correction of p-values for looking at several tasks or cells at once."""

from typing import Any

import numpy as np

from workbench.statistics.means import Scores


def benjamini_hochberg(p_values: Scores) -> list[float]:
    """P-values adjusted for the false discovery rate; NaN stays NaN and is not counted."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    if known.any():
        corrected: Any = multipletests(values[known], method="fdr_bh")[1]
        adjusted[known] = corrected
    return [float(p) for p in adjusted]
