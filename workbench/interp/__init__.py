"""Looking inside: attention, heads, positions, and exact activation patching."""

from workbench.interp.anatomy.decoder import anatomy
from workbench.interp.anatomy.record import Anatomy
from workbench.interp.circuits.search import Circuit, circuit
from workbench.interp.interventions.ablation import ablation
from workbench.interp.interventions.needs import needed_heads
from workbench.interp.interventions.steering import steering
from workbench.interp.lenses.inputs import InputAttribution, input_attribution
from workbench.interp.lenses.lens import Lens, lens
from workbench.interp.lenses.tuned import TunedLens, tuned_lens
from workbench.interp.linear.probe import LinearProbe, linear_probe
from workbench.interp.patching.attribution import Attribution, attribution
from workbench.interp.patching.direct import Direct, direct
from workbench.interp.patching.pair_maps import Patching, patch
from workbench.interp.patching.probe_maps import Probed, probe
from workbench.interp.patterns.attention import Attention, attention
from workbench.interp.patterns.catalogue import HeadCatalogue, head_catalogue
from workbench.interp.patterns.composition import (
    Composition,
    composition,
    copying_scores,
    strongest_pairs,
)
from workbench.interp.patterns.heads import HeadScores, head_scores
from workbench.interp.patterns.position_split import PositionSplit, position_split
from workbench.interp.patterns.routes import GradientAttention, flow, gradient_attention, rollout
from workbench.interp.position.distance import Distances, attention_by_distance
from workbench.interp.position.encoding import Encoding, position_encoding
from workbench.interp.position.loss import PositionLoss, loss_by_position
from workbench.interp.position.probe import PositionProbe, position_probe
from workbench.interp.position.rotary import RotaryUse, rotary_use
from workbench.interp.position.study import EncodingStudy, encoding_study
from workbench.interp.prompts.probes import available_probes

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
