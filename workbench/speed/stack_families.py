"""Which reading works on which encoder or encoder-decoder: each on a tiny random model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from workbench.speed.families import CLOSE, Family, mark, try_all
from workbench.subjects import Subject, zoo_stacks
from workbench.subjects.kinds import ENCODER

MASKED = " John and Mary went to the store, John gave a drink to"
OTHER = " Mary and Mary went to the store, John gave a drink to"
WRITTEN = " John and"


def functions() -> dict[str, Callable[[Subject], Any]]:
    """Each reading by name, with the arguments used here."""
    import workbench as wb

    def patch(subject: Subject, site: str) -> Any:
        target = "" if subject.kind == ENCODER else WRITTEN
        words: dict[str, Any] = {"answer": " Mary", "wrong": " John", "target": target}
        return wb.patch(subject, MASKED, OTHER, site=site, strict=True, **words)

    def lens(subject: Subject) -> Any:
        return wb.lens(subject, MASKED, target=_target(subject), strict=True)

    return {
        "attention": lambda s: wb.attention(s, MASKED, target=_target(s)),
        "head_scores": lambda s: wb.head_scores(s, n=2, length=8),
        "lens": lens,
        "patch z": lambda s: patch(s, "z"),
        "patch attn_out": lambda s: patch(s, "attn_out"),
        "patch resid_mid": lambda s: patch(s, "resid_mid"),
    }


def _target(subject: Subject) -> str | None:
    return None if subject.kind == ENCODER else WRITTEN


def measure_stack(family: zoo_stacks.StackFamily) -> Family:
    """The outcome of every reading on a family's tiny model; never raises."""
    return try_all(
        family.name,
        lambda folder: zoo_stacks.stack_subject(family, folder),
        functions(),
        _words,
        lambda _: False,
    )


def _words(what: str, result: Any, subject: Subject) -> str:
    return _against_eager(subject, result.pattern) if what == "attention" else "numbers"


@torch.no_grad()
def _against_eager(subject: Subject, pattern: np.ndarray) -> str:
    """Whether a pattern is what transformers' eager attention hands out."""
    from workbench.interp.stacks.structure import inputs_of
    from workbench.interp.stacks.texts import texts_of
    from workbench.subjects.bridge import shared_clone

    clone: Any = shared_clone(subject.model)
    texts = texts_of(subject, MASKED, _target(subject))
    try:
        clone.set_attn_implementation("eager")
        out = clone(**inputs_of(clone, texts.source, texts.written), output_attentions=True)
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return "numbers"
    theirs = out.attentions if subject.kind == ENCODER else out.cross_attentions
    if not theirs or theirs[0] is None or len(theirs) != len(pattern):
        return "numbers"
    off = float(np.abs(np.stack([p[0].numpy() for p in theirs]) - pattern).max())
    return "exact" if off <= CLOSE else f"FAULT off by {off:.2g} from eager attention"


def stack_markdown(families: dict[str, list[Family]]) -> str:
    """The tables of encoders and encoder-decoders, those not loaded, and faults.

    Args:
        families: The measured families by their kind.
    """
    names = list(functions())
    lines: list[str] = []
    for kind, measured in families.items():
        loaded = [family for family in measured if not family.loads]
        lines += [
            f"## {kind.capitalize()}s",
            "",
            f"{len(measured)} families of transformers, of which {len(loaded)} are made tiny and "
            "loaded; patching and lens pass all their checks where they give numbers.",
            "",
            f"| family | {' | '.join(names)} |",
            "|---|" + "---|" * len(names),
        ]
        for family in loaded:
            marks = [mark(family.outcome[name]) for name in names]
            lines.append(f"| {family.name} | {' | '.join(marks)} |")
        lines += ["", "Not asked:", ""]
        lines += [f"- {family.name}: {family.loads}" for family in measured if family.loads]
        faults = [(f.name, what, why) for f in loaded for what, why in f.faults.items()]
        lines += [f"- {name}, {what}: {why}" for name, what, why in faults]
        lines.append("")
    return "\n".join(lines)
