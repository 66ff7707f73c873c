"""A workbench for small GPT models: train, load, benchmark, look inside, change, compare.

    import workbench as wb
    subject = wb.load("shelf-base")

Names are imported when first used, so that `import workbench` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.benchmarks import evaluate
    from workbench.benchmarks.needs import task_needs
    from workbench.comparison import compare, locate, locate_activations, report, transplant
    from workbench.errors import WorkbenchError
    from workbench.interp import (
        anatomy,
        attention,
        attention_by_distance,
        attribution,
        circuit,
        composition,
        direct,
        encoding_study,
        gradient_attention,
        head_catalogue,
        head_scores,
        input_attribution,
        lens,
        linear_probe,
        loss_by_position,
        needed_heads,
        patch,
        position_encoding,
        position_probe,
        position_split,
        probe,
        rotary_use,
        strongest_pairs,
        tuned_lens,
    )
    from workbench.subjects import Subject, available, load
    from workbench.training import resume, train, train_encodings
    from workbench.training import train as finetune

_HOMES = {
    "Subject": "workbench.subjects",
    "WorkbenchError": "workbench.errors",
    "anatomy": "workbench.interp",
    "attention": "workbench.interp",
    "attention_by_distance": "workbench.interp",
    "attribution": "workbench.interp.causal.attribution",
    "available": "workbench.subjects",
    "circuit": "workbench.interp.causal.circuit",
    "compare": "workbench.comparison",
    "composition": "workbench.interp",
    "direct": "workbench.interp.causal.direct",
    "encoding_study": "workbench.interp",
    "evaluate": "workbench.benchmarks",
    "finetune": "workbench.training:train",
    "gradient_attention": "workbench.interp",
    "head_catalogue": "workbench.interp",
    "head_scores": "workbench.interp",
    "input_attribution": "workbench.interp.lenses.inputs",
    "lens": "workbench.interp.lenses.lens",
    "linear_probe": "workbench.interp.decoding.linear",
    "load": "workbench.subjects",
    "locate": "workbench.comparison",
    "locate_activations": "workbench.comparison",
    "loss_by_position": "workbench.interp",
    "needed_heads": "workbench.interp.causal.interventions",
    "patch": "workbench.interp",
    "position_encoding": "workbench.interp",
    "position_probe": "workbench.interp",
    "position_split": "workbench.interp",
    "probe": "workbench.interp.causal.probing",
    "report": "workbench.comparison",
    "resume": "workbench.training",
    "rotary_use": "workbench.interp",
    "strongest_pairs": "workbench.interp",
    "task_needs": "workbench.benchmarks.needs",
    "train": "workbench.training",
    "train_encodings": "workbench.training",
    "transplant": "workbench.comparison",
    "tuned_lens": "workbench.interp.lenses.tuned",
}

__all__ = [
    "Subject",
    "WorkbenchError",
    "anatomy",
    "attention",
    "attention_by_distance",
    "attribution",
    "available",
    "circuit",
    "compare",
    "composition",
    "direct",
    "encoding_study",
    "evaluate",
    "finetune",
    "gradient_attention",
    "head_catalogue",
    "head_scores",
    "input_attribution",
    "lens",
    "linear_probe",
    "load",
    "locate",
    "locate_activations",
    "loss_by_position",
    "needed_heads",
    "patch",
    "position_encoding",
    "position_probe",
    "position_split",
    "probe",
    "report",
    "resume",
    "rotary_use",
    "strongest_pairs",
    "task_needs",
    "train",
    "train_encodings",
    "transplant",
    "tuned_lens",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, _, attribute = _HOMES[name].partition(":")
        return getattr(import_module(module), attribute or name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
