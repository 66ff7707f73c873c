"""Confidence intervals, paired tests and detectable differences.

Scores are one number per sample. A weighted mean (bits per byte, weighted by bytes) is the ratio
sum(w s) / sum(w). `docs/intervals.md` lists which method each number of the workbench uses, and how
often its interval covers the true value in simulations.

Reference:
    Miller (2024), "Adding Error Bars to Evals".
"""

from workbench.statistics.cells import cell_statistics, gain_shares, map_correlation
from workbench.statistics.estimates import estimate_aggregate, estimate_mean
from workbench.statistics.means import Scores, estimate_ratio, mean_interval
from workbench.statistics.multiple import benjamini_hochberg
from workbench.statistics.paired import paired_counts, paired_difference
from workbench.statistics.power import detection_power, minimal_detectable_difference, too_few
from workbench.statistics.proportions import blaker, largest_share, mcnemar, tango, wilson
from workbench.statistics.records import FEWEST, Cells, Difference, Estimate
from workbench.statistics.unpaired import unpaired_shares

__all__ = [
    "FEWEST",
    "Cells",
    "Difference",
    "Estimate",
    "Scores",
    "benjamini_hochberg",
    "blaker",
    "cell_statistics",
    "detection_power",
    "estimate_aggregate",
    "estimate_mean",
    "estimate_ratio",
    "gain_shares",
    "largest_share",
    "map_correlation",
    "mcnemar",
    "mean_interval",
    "minimal_detectable_difference",
    "paired_counts",
    "paired_difference",
    "tango",
    "too_few",
    "unpaired_shares",
    "wilson",
]
