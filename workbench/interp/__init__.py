"""Looking inside: attention, heads, positions, and exact activation patching."""

from workbench.interp.attention import Attention, attention
from workbench.interp.heads import HeadScores, head_scores
from workbench.interp.patching import Patching, patch
from workbench.interp.positional import Distances, Encoding, attention_by_distance, position_encoding

__all__ = [
    "Attention",
    "Distances",
    "Encoding",
    "HeadScores",
    "Patching",
    "attention",
    "attention_by_distance",
    "head_scores",
    "patch",
    "position_encoding",
]
