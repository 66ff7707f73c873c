"""What changed between two Subjects: behaviour, predictions, representation, heads and weights, with statistics."""

from workbench.comparison.beliefs import LensShift, lens_shift
from workbench.comparison.compare import Comparison, compare
from workbench.comparison.head_scores import ScoreShift, score_shift
from workbench.comparison.heads import HeadShift, head_shift
from workbench.comparison.layers import LayerShift, layer_shift
from workbench.comparison.lineage import Relative, relatives
from workbench.comparison.matching import obstacles, what_remains
from workbench.comparison.series import Series, checkpoint_series, series
from workbench.comparison.text import Parting, TextShift, partings, text_shift
from workbench.comparison.transfer import Transfer, probe_transfer
from workbench.comparison.weights import WeightShift, weight_shift

__all__ = [
    "Comparison",
    "HeadShift",
    "LayerShift",
    "LensShift",
    "Parting",
    "Relative",
    "ScoreShift",
    "Series",
    "TextShift",
    "Transfer",
    "WeightShift",
    "checkpoint_series",
    "compare",
    "head_shift",
    "layer_shift",
    "lens_shift",
    "obstacles",
    "partings",
    "probe_transfer",
    "relatives",
    "score_shift",
    "series",
    "text_shift",
    "weight_shift",
    "what_remains",
]
