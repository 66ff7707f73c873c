"""Looking inside: attention, heads, positions, and exact activation patching."""

from workbench.interp.anatomy import Anatomy, anatomy
from workbench.interp.attention import Attention, attention
from workbench.interp.catalogue import HeadCatalogue, head_catalogue
from workbench.interp.circuits import Composition, composition, copying_scores, strongest_pairs
from workbench.interp.encodings import EncodingStudy, encoding_study
from workbench.interp.heads import HeadScores, head_scores
from workbench.interp.patching import Patching, patch
from workbench.interp.position_loss import PositionLoss, loss_by_position
from workbench.interp.position_probe import PositionProbe, position_probe
from workbench.interp.position_split import PositionSplit, position_split
from workbench.interp.positional import Distances, Encoding, attention_by_distance, position_encoding
from workbench.interp.rotary import RotaryUse, rotary_use
from workbench.interp.routes import GradientAttention, flow, gradient_attention, rollout

__all__ = [
    "Anatomy",
    "Attention",
    "Composition",
    "Distances",
    "Encoding",
    "EncodingStudy",
    "GradientAttention",
    "HeadCatalogue",
    "HeadScores",
    "Patching",
    "PositionLoss",
    "PositionProbe",
    "PositionSplit",
    "RotaryUse",
    "anatomy",
    "attention",
    "attention_by_distance",
    "composition",
    "copying_scores",
    "encoding_study",
    "flow",
    "gradient_attention",
    "head_catalogue",
    "head_scores",
    "loss_by_position",
    "patch",
    "position_encoding",
    "position_probe",
    "position_split",
    "rollout",
    "rotary_use",
    "strongest_pairs",
]
