"""Written by `python -m workbench.stub`, from `_HOMES` in `__init__.py`."""

from workbench.benchmarks import compare_results as compare_results
from workbench.benchmarks import evaluate as evaluate
from workbench.benchmarks import suites as suites
from workbench.benchmarks.needs import task_needs as task_needs
from workbench.benchmarks.results.files import read_scores as read_scores
from workbench.benchmarks.results.files import write_scores as write_scores
from workbench.bias.by_category import fairness as fairness
from workbench.bias.carriers import bias_heads as bias_heads
from workbench.budget.costs import costs as costs
from workbench.budget.machine import machine as machine
from workbench.budget.scaling import scaling_law as scaling_law
from workbench.budget.usage import usage as usage
from workbench.comparison import compare as compare
from workbench.comparison import locate as locate
from workbench.comparison import locate_activations as locate_activations
from workbench.comparison import report as report
from workbench.comparison import transplant as transplant
from workbench.data.digits import digits as digits
from workbench.data.tones import tone as tone
from workbench.encoders.accuracy import encoder_accuracy as encoder_accuracy
from workbench.encoders.attribution import encoder_attribution as encoder_attribution
from workbench.encoders.classes import encoder_classes as encoder_classes
from workbench.encoders.lens import encoder_lens as encoder_lens
from workbench.encoders.looking import encoder_attention as encoder_attention
from workbench.encoders.patching import ENCODER_SITES as ENCODER_SITES
from workbench.encoders.patching import encoder_patching as encoder_patching
from workbench.encoders.reading import read_signal as read_signal
from workbench.errors import WorkbenchError as WorkbenchError
from workbench.interp import ablation as ablation
from workbench.interp import anatomy as anatomy
from workbench.interp import attention as attention
from workbench.interp import attention_by_distance as attention_by_distance
from workbench.interp import attribution as attribution
from workbench.interp import available_probes as available_probes
from workbench.interp import circuit as circuit
from workbench.interp import composition as composition
from workbench.interp import copying_scores as copying_scores
from workbench.interp import direct as direct
from workbench.interp import encoding_study as encoding_study
from workbench.interp import flow as flow
from workbench.interp import gradient_attention as gradient_attention
from workbench.interp import head_catalogue as head_catalogue
from workbench.interp import head_scores as head_scores
from workbench.interp import input_attribution as input_attribution
from workbench.interp import lens as lens
from workbench.interp import linear_probe as linear_probe
from workbench.interp import loss_by_position as loss_by_position
from workbench.interp import needed_heads as needed_heads
from workbench.interp import patch as patch
from workbench.interp import position_encoding as position_encoding
from workbench.interp import position_probe as position_probe
from workbench.interp import position_split as position_split
from workbench.interp import probe as probe
from workbench.interp import rollout as rollout
from workbench.interp import rotary_use as rotary_use
from workbench.interp import steering as steering
from workbench.interp import strongest_pairs as strongest_pairs
from workbench.interp import tuned_lens as tuned_lens
from workbench.interp.engine.metrics import METRICS as METRICS
from workbench.interp.engine.settings import DIRECTIONS as DIRECTIONS
from workbench.interp.engine.sites import REPLACEMENTS as REPLACEMENTS
from workbench.interp.engine.sites import SITES as SITES
from workbench.interp.interventions.effect import effect_of as effect_of
from workbench.pictures.drawing import complete_picture as complete_picture
from workbench.pictures.drawing import draw_digits as draw_digits
from workbench.pictures.likelihood import classify_pictures as classify_pictures
from workbench.pictures.looking import picture_attention as picture_attention
from workbench.pictures.places import position_map as position_map
from workbench.pictures.reading import read_picture as read_picture
from workbench.privacy.audit import audit as audit
from workbench.privacy.exposure import Canary as Canary
from workbench.privacy.holders import holders as holders
from workbench.privacy.scan import redact as redact
from workbench.privacy.scan import scan as scan
from workbench.subjects import Subject as Subject
from workbench.subjects import available as available
from workbench.subjects import load as load
from workbench.subjects.edits import Edit as Edit
from workbench.subjects.encoder import Encoder as Encoder
from workbench.subjects.encoder_load import load_encoder as load_encoder
from workbench.subjects.intervention import Intervention as Intervention
from workbench.subjects.intervention import apply as apply
from workbench.subjects.intervention import read_intervention as read_intervention
from workbench.subjects.model_card import model_card as model_card
from workbench.sweeps.sweep import sweep as sweep
from workbench.training import Recipe as Recipe
from workbench.training import resume as resume
from workbench.training import train as train
from workbench.training.study import train_encodings as train_encodings

__all__ = [
    "DIRECTIONS",
    "ENCODER_SITES",
    "METRICS",
    "REPLACEMENTS",
    "SITES",
    "Canary",
    "Edit",
    "Encoder",
    "Intervention",
    "Recipe",
    "Subject",
    "WorkbenchError",
    "ablation",
    "anatomy",
    "apply",
    "attention",
    "attention_by_distance",
    "attribution",
    "audit",
    "available",
    "available_probes",
    "bias_heads",
    "circuit",
    "classify_pictures",
    "compare",
    "compare_results",
    "complete_picture",
    "composition",
    "copying_scores",
    "costs",
    "digits",
    "direct",
    "draw_digits",
    "effect_of",
    "encoder_accuracy",
    "encoder_attention",
    "encoder_attribution",
    "encoder_classes",
    "encoder_lens",
    "encoder_patching",
    "encoding_study",
    "evaluate",
    "fairness",
    "flow",
    "gradient_attention",
    "head_catalogue",
    "head_scores",
    "holders",
    "input_attribution",
    "lens",
    "linear_probe",
    "load",
    "load_encoder",
    "locate",
    "locate_activations",
    "loss_by_position",
    "machine",
    "model_card",
    "needed_heads",
    "patch",
    "picture_attention",
    "position_encoding",
    "position_map",
    "position_probe",
    "position_split",
    "probe",
    "read_intervention",
    "read_picture",
    "read_scores",
    "read_signal",
    "redact",
    "report",
    "resume",
    "rollout",
    "rotary_use",
    "scaling_law",
    "scan",
    "steering",
    "strongest_pairs",
    "suites",
    "sweep",
    "task_needs",
    "tone",
    "train",
    "train_encodings",
    "transplant",
    "tuned_lens",
    "usage",
    "write_scores",
]
