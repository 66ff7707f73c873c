"""Checks that are run on every map: the panel "Can this be trusted?"."""

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
    """The largest difference between the map's two unpatched runs and the plain model's.

    Args:
        subject: The model.
        question: The prompts.
        swept: The map.
    """
    plain = [float(swept.metric(subject.model(ids[None]).logits)[0]) for ids in question.prompts]
    return max(abs(plain[0] - swept.clean), abs(plain[1] - swept.corrupted))


@torch.no_grad()
def identities(subject: Subject, question: Pair, swept: Swept) -> dict[str, float]:
    """The checks `identity_patch`, `full_patch` and `lens`, by the engine that made the map.

    Args:
        subject: The model.
        question: The prompts.
        swept: The map.
    """
    packed = engine(subject)
    same_length = len(question.clean) == len(question.corrupted)
    other = question.clean if same_length else question.corrupted
    run = packed.record(torch.stack([other, question.corrupted]))
    first = min(question.first_difference, len(question.corrupted) - 1)
    half = len(packed.layers) // 2
    clean_end, corrupted_end = swept.metric(run.logits).tolist()
    # All three are carried through the corrupted run, prompt 1.
    itself = Branches(0, first, 1, lambda: run.resid[0][1, first:].unsqueeze(0), "identity_patch")
    middle = Branches(
        half, first, 1, lambda: run.resid[half][1, first:].unsqueeze(0), "identity_patch"
    )
    whole = Branches(0, first, 1, lambda: run.resid[0][0, first:].unsqueeze(0), "full_patch")
    off = {"identity_patch": 0.0, "full_patch": 0.0}
    for branch, final in packed.carry(run, 1, [itself, middle, whole], last=swept.metric.reads):
        expected = clean_end if branch.key == "full_patch" else corrupted_end
        value = float(swept.metric.of(packed.logits(final, swept.metric.tokens))[0])
        off[branch.key] = max(off[branch.key], abs(value - expected))
    lens = packed.logits(run.resid[-1][:, -1])
    if not same_length:
        del off["full_patch"]  # the positions of the two prompts do not correspond
    return {**off, "lens": float((lens - run.logits[:, -1]).abs().max())}


@torch.no_grad()
def null_pair(subject: Subject, question: Pair, settings: Settings, swept: Swept) -> float:
    """The largest change by patches of a prompt with itself, which should change nothing.

    A few patches of the middle layer (or of the one that is swept) show any error in the site's own
    arithmetic.

    Args:
        subject: The model.
        question: The prompts, of which the corrupted one is used.
        settings: What is swept.
        swept: The map.
    """
    packed = engine(subject)
    run = packed.record(torch.stack([question.corrupted, question.corrupted]))
    layers = (len(packed.layers) // 2 if settings.layer is None else settings.layer,)
    first = 0 if settings.ablates else min(question.first_difference, len(question.corrupted) - 1)
    same = Map(
        packed,
        run,
        1,
        source_of_run(run, 0),
        settings.site,
        first,
        layers,
        window=settings.window,
        also=settings.also,
        fed=question.fed,
    )
    unpatched = float(swept.metric(run.logits[1:2])[0])
    off = 0.0
    patches = list(islice(same.branches(), 4))
    for _, finals in packed.carry(run, 1, patches, last=swept.metric.reads):
        values = swept.metric.of(packed.logits(finals, swept.metric.tokens))
        off = max(off, float((values - unpatched).abs().max()))
    return off


def direct_sum(subject: Subject, question: Pair) -> float:
    """How far the sum of all direct contributions is from the model's logit difference."""
    return attribute(subject, question).checks["direct_sum"]


def hooked_cells(
    subject: Subject, question: Pair, settings: Settings, values: Tensor, first: int, n: int
) -> float:
    """The largest difference of `n` random cells from a run by hooks, one each.

    Args:
        subject: The model.
        question: The prompts.
        settings: What is swept; its `seed` draws the cells.
        values: The map.
        first: The first position whose cells were computed.
        n: Cells to recompute.
    """
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

    Answers of several tokens are checked one by one, and the worst difference counts.

    Args:
        subject: The model.
        question: The prompts.
        settings: What is swept.
        swept: The map.
        audit: Cells to recompute by hooks.
        packed: Whether the packed engine made the map.
    """
    if question.parts:
        how = replace(settings, metric="log_prob")
        each = [
            run_checks(subject, part, how, part_map, audit=audit, packed=packed)
            for part, part_map in zip(question.parts, swept.parts, strict=True)
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
