"""What is verified on every map before it may be believed: the panel "Can this be trusted?"."""

from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from workbench.interp.engine.branches import Branches
from workbench.interp.engine.hooked import hooked
from workbench.interp.engine.map import Map
from workbench.interp.engine.packed import engine
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sources import source_of_run
from workbench.interp.engine.sweep import Swept
from workbench.interp.patching.direct import attribute
from workbench.interp.patching.trust import TOLERANCE, WORDS, failed
from workbench.interp.prompts.pairs import Pair
from workbench.subjects import Subject

__all__ = ["TOLERANCE", "WORDS", "failed", "run_checks"]


@torch.no_grad()
def plain_model(subject: Subject, question: Pair, swept: Swept) -> float:
    """The two unpatched runs against `transformers`, untouched."""
    ends = [float(swept.metric(subject.model(ids[None]).logits)[0]) for ids in question.prompts]
    return max(
        abs(end - said) for end, said in zip(ends, (swept.clean, swept.corrupted), strict=True)
    )


@torch.no_grad()
def identities(subject: Subject, question: Pair, swept: Swept) -> dict[str, float]:
    """Facts that any patching obeys, run through the very engine that made the map."""
    packed = engine(subject)
    alike = len(question.clean) == len(question.corrupted)
    run = packed.record(
        torch.stack([question.clean if alike else question.corrupted, question.corrupted])
    )
    first, n_layers = (
        min(question.first_difference, len(question.corrupted) - 1),
        len(packed.layers),
    )
    ends = swept.metric(run.logits).tolist()
    itself = Branches(0, first, 1, lambda: run.resid[0][1, first:].unsqueeze(0), "itself")
    middle = Branches(
        n_layers // 2, first, 1, lambda: run.resid[n_layers // 2][1, first:].unsqueeze(0), "itself"
    )
    whole = Branches(0, first, 1, lambda: run.resid[0][0, first:].unsqueeze(0), "whole")
    apart = {"identity_patch": 0.0, "full_patch": 0.0}
    for branch, final in packed.carry(run, 1, [itself, middle, whole], last=swept.metric.reads):
        name, end = (
            ("full_patch", ends[0]) if branch.key == "whole" else ("identity_patch", ends[1])
        )
        value = float(swept.metric.of(packed.logits(final, swept.metric.tokens))[0])
        apart[name] = max(apart[name], abs(value - end))
    lens = packed.logits(run.resid[-1][:, -1])
    if not alike:
        del apart["full_patch"]  # there is no position for position
    return {**apart, "lens": float((lens - run.logits[:, -1]).abs().max())}


@torch.no_grad()
def null_pair(subject: Subject, question: Pair, settings: Settings, swept: Swept) -> float:
    """The same map's patches with one prompt as both runs: what the site's own arithmetic adds,
    which is nothing.

    A few patches of the middle layer (or of the one that is swept).
    """
    packed = engine(subject)
    run = packed.record(torch.stack([question.corrupted, question.corrupted]))
    layers = (len(packed.layers) // 2 if settings.layer is None else settings.layer,)
    first = 0 if settings.ablates else min(question.first_difference, len(question.corrupted) - 1)
    more = {"also": settings.also, "fed": question.fed}
    same = Map(
        packed, run, 1, source_of_run(run, 0), settings.site, first, layers, settings.window, **more
    )
    end = float(swept.metric(run.logits[1:2])[0])
    apart = 0.0
    for _, finals in packed.carry(
        run, 1, list(islice(same.branches(), 4)), last=swept.metric.reads
    ):
        values = swept.metric.of(packed.logits(finals, swept.metric.tokens))
        apart = max(apart, float((values - end).abs().max()))
    return apart


def direct_sum(subject: Subject, question: Pair) -> float:
    """What all parts write towards the answer, against the model's own logit difference."""
    return attribute(subject, question).checks["direct_sum"]


def hooked_cells(
    subject: Subject, question: Pair, settings: Settings, values: Tensor, first: int, n: int
) -> float:
    """`n` random cells of the map recomputed by one hooked run each."""
    generator = torch.Generator().manual_seed(settings.seed)
    axes = SITES[settings.site]
    low = [min(first, values.shape[-1] - 1) if axis == "pos" else 0 for axis in axes]
    cells = [
        tuple(
            int(torch.randint(a, b, (1,), generator=generator))
            for a, b in zip(low, values.shape, strict=True)
        )
        for _ in range(n)
    ]
    again = hooked(subject, question, settings, cells=cells).values
    return max(abs(float(again[c] - values[c])) for c in cells)


def run_checks(
    subject: Subject, question: Pair, settings: Settings, swept: Swept, *, audit: int, packed: bool
) -> dict[str, float]:
    """Every check that goes with these settings, as differences in the metric's unit; see `WORDS`.

    Of answers of several tokens each is checked by itself, and the worst is said.
    """
    if question.parts:
        how = replace(settings, metric="log_prob")
        sides = zip(question.parts, swept.parts, strict=True)
        each = [
            run_checks(subject, part, how, side, audit=audit, packed=packed) for part, side in sides
        ]
        worst = {name: float(np.max([checks[name] for checks in each])) for name in each[0]}
        return {**worst, "direct_sum": direct_sum(subject, question)} if packed else worst
    checks = {"not_fired": float(torch.isnan(swept.values).sum())}
    if settings.replacement != "noise":
        checks["plain_model"] = plain_model(subject, question, swept)
    if packed:
        checks |= identities(subject, question, swept)
        checks["null_pair"] = null_pair(subject, question, settings, swept)
        if question.wrongs:
            checks["direct_sum"] = direct_sum(subject, question)
        if audit and not settings.several and settings.replacement in ("other", "zero"):
            checks["hooked_cells"] = hooked_cells(
                subject, question, settings, swept.values, swept.first, audit
            )
    return checks
