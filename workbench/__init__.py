"""A workbench for small GPT models: train, load, benchmark, look inside, change, compare.

    import workbench as wb
    subject = wb.load("shelf-base")

Every function takes a model's name or a loaded Subject; a name is loaded anew at each call. Every
result prints as one line, draws itself in a notebook, and has `to_frame`, `to_dict`, `to_json` and
`provenance`.

Public names are imported when first used, so that `import workbench` is instant. `_HOMES` is their
only list; `python -m workbench.stub` writes `__init__.pyi` from it, for editors and type checkers.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Canary": "workbench.privacy.exposure",
    "DIRECTIONS": "workbench.interp.engine.settings",
    "ENCODER_SITES": "workbench.encoders.patching",
    "Edit": "workbench.subjects.edits",
    "Encoder": "workbench.subjects.encoder",
    "Intervention": "workbench.subjects.intervention",
    "METRICS": "workbench.interp.engine.metrics",
    "REPLACEMENTS": "workbench.interp.engine.sites",
    "Recipe": "workbench.training",
    "SITES": "workbench.interp.engine.sites",
    "Subject": "workbench.subjects",
    "WorkbenchError": "workbench.errors",
    "ablation": "workbench.interp",
    "anatomy": "workbench.interp",
    "apply": "workbench.subjects.intervention",
    "attention": "workbench.interp",
    "attention_by_distance": "workbench.interp",
    "attribution": "workbench.interp",
    "audit": "workbench.privacy.audit",
    "available": "workbench.subjects",
    "available_probes": "workbench.interp",
    "bias_heads": "workbench.bias.carriers",
    "circuit": "workbench.interp",
    "classify_pictures": "workbench.pictures.likelihood",
    "compare": "workbench.comparison",
    "compare_results": "workbench.benchmarks",
    "complete_picture": "workbench.pictures.drawing",
    "composition": "workbench.interp",
    "copying_scores": "workbench.interp",
    "costs": "workbench.budget.costs",
    "digits": "workbench.data.digits",
    "direct": "workbench.interp",
    "draw_digits": "workbench.pictures.drawing",
    "effect_of": "workbench.interp.interventions.effect",
    "encoder_accuracy": "workbench.encoders.accuracy",
    "encoder_attention": "workbench.encoders.looking",
    "encoder_attribution": "workbench.encoders.attribution",
    "encoder_classes": "workbench.encoders.classes",
    "encoder_lens": "workbench.encoders.lens",
    "encoder_patching": "workbench.encoders.patching",
    "encoding_study": "workbench.interp",
    "evaluate": "workbench.benchmarks",
    "fairness": "workbench.bias.by_category",
    "flow": "workbench.interp",
    "gradient_attention": "workbench.interp",
    "head_catalogue": "workbench.interp",
    "head_scores": "workbench.interp",
    "holders": "workbench.privacy.holders",
    "input_attribution": "workbench.interp",
    "lens": "workbench.interp",
    "linear_probe": "workbench.interp",
    "load": "workbench.subjects",
    "load_encoder": "workbench.subjects.encoder_load",
    "locate": "workbench.comparison",
    "locate_activations": "workbench.comparison",
    "loss_by_position": "workbench.interp",
    "machine": "workbench.budget.machine",
    "model_card": "workbench.subjects.model_card",
    "needed_heads": "workbench.interp",
    "patch": "workbench.interp",
    "picture_attention": "workbench.pictures.looking",
    "position_encoding": "workbench.interp",
    "position_map": "workbench.pictures.places",
    "position_probe": "workbench.interp",
    "position_split": "workbench.interp",
    "probe": "workbench.interp",
    "read_intervention": "workbench.subjects.intervention",
    "read_picture": "workbench.pictures.reading",
    "read_scores": "workbench.benchmarks.results.files",
    "read_signal": "workbench.encoders.reading",
    "redact": "workbench.privacy.scan",
    "report": "workbench.comparison",
    "resume": "workbench.training",
    "rollout": "workbench.interp",
    "rotary_use": "workbench.interp",
    "scaling_law": "workbench.budget.scaling",
    "scan": "workbench.privacy.scan",
    "steering": "workbench.interp",
    "strongest_pairs": "workbench.interp",
    "suites": "workbench.benchmarks",
    "sweep": "workbench.sweeps.sweep",
    "task_needs": "workbench.benchmarks.needs",
    "tone": "workbench.data.tones",
    "train": "workbench.training",
    "train_encodings": "workbench.training.study",
    "transplant": "workbench.comparison",
    "tuned_lens": "workbench.interp",
    "usage": "workbench.budget.usage",
    "write_scores": "workbench.benchmarks.results.files",
}
"""The module of each public name."""

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
