"""What differs between two Subjects: behaviour, predictions, representations, heads, weights."""

from workbench.comparison.beliefs import LensShift, lens_shift
from workbench.comparison.compare import Comparison, compare
from workbench.comparison.head_scores import ScoreShift, score_shift
from workbench.comparison.heads import HeadShift, head_shift
from workbench.comparison.layers import LayerShift, layer_shift
from workbench.comparison.lineage import Relative, relatives
from workbench.comparison.location.carry import Carried, locate_activations
from workbench.comparison.location.locate import Located, locate
from workbench.comparison.location.make import transplant
from workbench.comparison.matching import obstacles, what_remains
from workbench.comparison.report.page import Report, report
from workbench.comparison.series import Series, behaviour_series, checkpoint_series, series
from workbench.comparison.text import Parting, TextShift, partings, text_shift
from workbench.comparison.transfer import Transfer, probe_transfer
from workbench.comparison.weights import WeightShift, weight_shift

__all__ = [
    "Carried",
    "Comparison",
    "HeadShift",
    "LayerShift",
    "LensShift",
    "Located",
    "Parting",
    "Relative",
    "Report",
    "ScoreShift",
    "Series",
    "TextShift",
    "Transfer",
    "WeightShift",
    "behaviour_series",
    "checkpoint_series",
    "compare",
    "head_shift",
    "layer_shift",
    "lens_shift",
    "locate",
    "locate_activations",
    "obstacles",
    "partings",
    "probe_transfer",
    "relatives",
    "report",
    "score_shift",
    "series",
    "text_shift",
    "transplant",
    "weight_shift",
    "what_remains",
]
