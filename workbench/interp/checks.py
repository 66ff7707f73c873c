"""What is verified on every map before it may be believed: the panel "Can this be trusted?"."""

import torch
from torch import Tensor

from workbench.interp.branches import Branches
from workbench.interp.hooked import hooked
from workbench.interp.packed import engine
from workbench.interp.pairs import Pair
from workbench.interp.sites import SITES
from workbench.interp.sweep import Settings, Swept
from workbench.subjects import Subject

TOLERANCE = 1e-3
"""Greatest difference, in the metric's unit (logits), that float32 rounding explains."""

WORDS = {
    "plain_model": "both runs against the plain model",
    "hooked_cells": "random cells against TransformerLens's hooks",
    "identity_patch": "patching a run with itself changes nothing",
    "full_patch": "patching everything gives the other run",
    "lens": "the last residual stream gives the model's logits",
    "direct_sum": "direct contributions add up to the logit difference",
    "not_fired": "cells that no patch reached",
}
"""Each check in words; every value is a difference and should be next to 0."""


@torch.no_grad()
def plain_model(subject: Subject, question: Pair, swept: Swept) -> float:
    """The two unpatched runs against `transformers`, untouched."""
    logits = subject.model(torch.stack([question.clean, question.corrupted])).logits[:, -1]
    ends = torch.tensor([swept.clean, swept.corrupted], dtype=logits.dtype, device=logits.device)
    return float((swept.metric(logits) - ends).abs().max())


@torch.no_grad()
def identities(subject: Subject, question: Pair, swept: Swept) -> dict[str, float]:
    """Facts that any patching obeys, run through the very engine that made the map."""
    packed = engine(subject)
    run = packed.record(torch.stack([question.clean, question.corrupted]))
    first, n_layers = question.first_difference, len(packed.layers)
    ends = swept.metric(run.logits[:, -1]).tolist()
    itself = Branches(0, first, 1, lambda: run.resid[0][1, first:].unsqueeze(0), "itself")
    middle = Branches(n_layers // 2, first, 1, lambda: run.resid[n_layers // 2][1, first:].unsqueeze(0), "itself")
    whole = Branches(0, first, 1, lambda: run.resid[0][0, first:].unsqueeze(0), "whole")
    apart = {"identity_patch": 0.0, "full_patch": 0.0}
    for branch, final in packed.carry(run, 1, [itself, middle, whole]):
        name, end = ("full_patch", ends[0]) if branch.key == "whole" else ("identity_patch", ends[1])
        value = float(swept.metric.of(packed.logits(final, swept.metric.tokens))[0])
        apart[name] = max(apart[name], abs(value - end))
    lens = packed.logits(run.resid[-1][:, -1])
    return {**apart, "lens": float((lens - run.logits[:, -1]).abs().max())}


def hooked_cells(subject: Subject, question: Pair, settings: Settings, values: Tensor, first: int, n: int) -> float:
    """`n` random cells of the map recomputed by one hooked run each."""
    generator = torch.Generator().manual_seed(settings.seed)
    axes = SITES[settings.site]
    low = [first if axis == "pos" else 0 for axis in axes]
    cells = [
        tuple(int(torch.randint(a, b, (1,), generator=generator)) for a, b in zip(low, values.shape, strict=True))
        for _ in range(n)
    ]
    again = hooked(subject, question, settings, cells=cells).values
    return max(abs(float(again[c] - values[c])) for c in cells)


def run_checks(
    subject: Subject, question: Pair, settings: Settings, swept: Swept, *, audit: int, packed: bool
) -> dict[str, float]:
    """Every check that goes with these settings, as differences in the metric's unit; see `WORDS`."""
    checks = {"not_fired": float(torch.isnan(swept.values).sum())}
    if settings.replacement != "noise":
        checks["plain_model"] = plain_model(subject, question, swept)
    if packed:
        checks |= identities(subject, question, swept)
        if audit and settings.window == 1 and settings.replacement in ("other", "zero"):
            checks["hooked_cells"] = hooked_cells(subject, question, settings, swept.values, swept.first, audit)
    return checks
