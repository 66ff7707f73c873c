"""Looking inside: attention, heads, positions, and exact activation patching."""

from workbench.interp.anatomy import Anatomy, anatomy
from workbench.interp.attention import Attention, attention
from workbench.interp.attribution import Attribution, attribution
from workbench.interp.catalogue import HeadCatalogue, head_catalogue
from workbench.interp.circuit import Circuit, circuit
from workbench.interp.circuits import Composition, composition, copying_scores, strongest_pairs
from workbench.interp.direct import Direct, direct
from workbench.interp.encodings import EncodingStudy, encoding_study
from workbench.interp.heads import HeadScores, head_scores
from workbench.interp.inputs import InputAttribution, input_attribution
from workbench.interp.interventions import ablation, needed_heads, steering
from workbench.interp.lens import Lens, lens
from workbench.interp.linear import LinearProbe, linear_probe
from workbench.interp.patching import Patching, patch
from workbench.interp.position_loss import PositionLoss, loss_by_position
from workbench.interp.position_probe import PositionProbe, position_probe
from workbench.interp.position_split import PositionSplit, position_split
from workbench.interp.positional import Distances, Encoding, attention_by_distance, position_encoding
from workbench.interp.probes import available_probes
from workbench.interp.probing import Probed, probe
from workbench.interp.rotary import RotaryUse, rotary_use
from workbench.interp.routes import GradientAttention, flow, gradient_attention, rollout
from workbench.interp.tuned import TunedLens, tuned_lens

__all__ = [
    "Anatomy",
    "Attention",
    "Attribution",
    "Circuit",
    "Composition",
    "Direct",
    "Distances",
    "Encoding",
    "EncodingStudy",
    "GradientAttention",
    "HeadCatalogue",
    "HeadScores",
    "InputAttribution",
    "Lens",
    "LinearProbe",
    "Patching",
    "PositionLoss",
    "PositionProbe",
    "PositionSplit",
    "Probed",
    "RotaryUse",
    "TunedLens",
    "ablation",
    "anatomy",
    "attention",
    "attention_by_distance",
    "attribution",
    "available_probes",
    "circuit",
    "composition",
    "copying_scores",
    "direct",
    "encoding_study",
    "flow",
    "gradient_attention",
    "head_catalogue",
    "head_scores",
    "input_attribution",
    "lens",
    "linear_probe",
    "loss_by_position",
    "needed_heads",
    "patch",
    "position_encoding",
    "position_probe",
    "position_split",
    "probe",
    "rollout",
    "rotary_use",
    "steering",
    "strongest_pairs",
    "tuned_lens",
]
