"""Looking inside: attention, heads, positions, and exact activation patching."""

from workbench.interp.anatomy.anatomy import Anatomy, anatomy
from workbench.interp.causal.attribution import Attribution, attribution
from workbench.interp.causal.circuit import Circuit, circuit
from workbench.interp.causal.direct import Direct, direct
from workbench.interp.causal.interventions import ablation, needed_heads, steering
from workbench.interp.causal.patching import Patching, patch
from workbench.interp.causal.probes import available_probes
from workbench.interp.causal.probing import Probed, probe
from workbench.interp.decoding.linear import LinearProbe, linear_probe
from workbench.interp.lenses.inputs import InputAttribution, input_attribution
from workbench.interp.lenses.lens import Lens, lens
from workbench.interp.lenses.tuned import TunedLens, tuned_lens
from workbench.interp.patterns.attention import Attention, attention
from workbench.interp.patterns.catalogue import HeadCatalogue, head_catalogue
from workbench.interp.patterns.circuits import Composition, composition, copying_scores, strongest_pairs
from workbench.interp.patterns.heads import HeadScores, head_scores
from workbench.interp.patterns.position_split import PositionSplit, position_split
from workbench.interp.patterns.routes import GradientAttention, flow, gradient_attention, rollout
from workbench.interp.position.encodings import EncodingStudy, encoding_study
from workbench.interp.position.position_loss import PositionLoss, loss_by_position
from workbench.interp.position.position_probe import PositionProbe, position_probe
from workbench.interp.position.positional import Distances, Encoding, attention_by_distance, position_encoding
from workbench.interp.position.rotary import RotaryUse, rotary_use

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
