"""Checks that are run on every map: the panel "Can this be trusted?"."""

from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.interp.engine.branches import Branches, Recording
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
def plain_logits(subject: Subject, question: Pair) -> list[Float[Tensor, "1 _ vocab"]]:
    """The plain model's logits on the clean and the corrupted prompt."""
    return [subject.model(ids[None]).logits for ids in question.prompts]


def plain_model(plain: list[Float[Tensor, "1 _ vocab"]], swept: Swept) -> float:
    """The largest difference between the map's two unpatched runs and the plain model's.

    Args:
        plain: From `plain_logits`.
        swept: The map.
    """
    clean, corrupted = (float(swept.metric(logits)[0]) for logits in plain)
    return max(abs(clean - swept.clean), abs(corrupted - swept.corrupted))


def both_runs(subject: Subject, question: Pair) -> Recording:
    """The clean and the corrupted run, or the corrupted one twice where lengths differ."""
    other = question.clean if question.same_length else question.corrupted
    return engine(subject).record(torch.stack([other, question.corrupted]))


@torch.no_grad()
def identities(subject: Subject, question: Pair, swept: Swept, run: Recording) -> dict[str, float]:
    """The checks `identity_patch`, `full_patch` and `lens`, by the engine that made the map.

    Args:
        subject: The model.
        question: The prompts.
        swept: The map.
        run: From `both_runs`.
    """
    packed = engine(subject)
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
    if not question.same_length:
        del off["full_patch"]  # the positions of the two prompts do not correspond
    return {**off, "lens": float((lens - run.logits[:, -1]).abs().max())}


@torch.no_grad()
def null_pair(
    subject: Subject, question: Pair, settings: Settings, swept: Swept, run: Recording
) -> float:
    """The largest change by patches of a prompt with itself, which should change nothing.

    A few patches of the middle layer (or of the one that is swept) show any error in the site's own
    arithmetic.

    Args:
        subject: The model.
        question: The prompts, of which the corrupted one is used.
        settings: What is swept.
        swept: The map.
        run: From `both_runs`.
    """
    packed = engine(subject)
    layers = (len(packed.layers) // 2 if settings.layer is None else settings.layer,)
    first = 0 if settings.ablates else min(question.first_difference, len(question.corrupted) - 1)
    same = Map(
        packed,
        run,
        1,
        source_of_run(run, 1),
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


def direct_sum(
    subject: Subject,
    question: Pair,
    run: Recording | None = None,
    logits: Float[Tensor, "1 pos vocab"] | None = None,
) -> float:
    """How far the sum of all direct contributions is from the model's logit difference.

    Args:
        subject: The model.
        question: The prompts.
        run: From `both_runs`, of prompts of equal length; None records the clean one.
        logits: The model's own on the clean prompt; None computes them.
    """
    return attribute(subject, question, run, logits).checks["direct_sum"]


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
    plain = plain_logits(subject, question)
    if settings.replacement != "noise":
        checks["plain_model"] = plain_model(plain, swept)
    if packed:
        run = both_runs(subject, question)
        checks |= identities(subject, question, swept, run)
        checks["null_pair"] = null_pair(subject, question, settings, swept, run)
        if question.wrongs:
            clean_run = run if question.same_length else None
            checks["direct_sum"] = direct_sum(subject, question, clean_run, plain[0])
        if audit and not settings.several and settings.replacement in ("other", "zero"):
            checks["hooked_cells"] = hooked_cells(
                subject, question, settings, swept.values, swept.first, audit
            )
    return checks
