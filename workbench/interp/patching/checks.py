"""Checks that are run on every map: the panel "Can this be trusted?"."""

from collections.abc import Callable
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
from workbench.interp.engine.reader import Reader
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
    if question.same_length:
        return list(subject.model(torch.stack(question.prompts)).logits.split(1))
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
def carried_checks(
    subject: Subject, question: Pair, settings: Settings, swept: Swept, run: Recording
) -> dict[str, float]:
    """The checks `identity_patch`, `full_patch`, `lens` and `null_pair`, by the map's own engine.

    Runs that must change nothing, or everything, are carried in one pass: the corrupted run put
    into itself at two depths, the clean run put into it whole, and a few patches of the site with
    the prompt's own values, which show any error in the site's own arithmetic.

    Args:
        subject: The model.
        question: The prompts.
        settings: What is swept.
        swept: The map.
        run: From `both_runs`.
    """
    packed = engine(subject)
    first = min(question.first_difference, len(question.corrupted) - 1)
    half = len(packed.layers) // 2
    clean_end, corrupted_end = swept.metric(run.logits).tolist()

    def rows(layer: int, prompt: int) -> Callable[[], Tensor]:
        return lambda: run.resid[layer][prompt, first:].unsqueeze(0)

    # All are carried through the corrupted run, prompt 1.
    branches = [
        Branches(0, first, 1, rows(0, 1), "identity_patch", prompt=1),
        Branches(half, first, 1, rows(half, 1), "identity_patch", prompt=1),
        Branches(0, first, 1, rows(0, 0), "full_patch", prompt=1),
    ]
    same = _with_itself(packed, question, settings, run)
    branches += [replace(branch, key="null_pair") for branch in islice(same.branches(), 4)]
    carried = packed.carry(run, branches, last=swept.metric.reads)
    ends = packed.logits(torch.cat([final for _, final in carried]), swept.metric.tokens)
    values = swept.metric.of(ends).split([branch.n for branch, _ in carried])
    off = {"identity_patch": 0.0, "full_patch": 0.0, "null_pair": 0.0}
    for (branch, _), value in zip(carried, values, strict=True):
        expected = clean_end if branch.key == "full_patch" else corrupted_end
        off[branch.key] = max(off[branch.key], float((value - expected).abs().max()))
    if not question.same_length:
        del off["full_patch"]  # the positions of the two prompts do not correspond
    lens = packed.logits(run.resid[-1][:, -1])
    return {**off, "lens": float((lens - run.logits[:, -1]).abs().max())}


def _with_itself(packed: Reader, question: Pair, settings: Settings, run: Recording) -> Map:
    """The middle layer's map (or that of the layer that is swept) of the corrupted run, itself."""
    layers = (len(packed.layers) // 2 if settings.layer is None else settings.layer,)
    first = 0 if settings.ablates else min(question.first_difference, len(question.corrupted) - 1)
    return Map(
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
        run = swept.run or both_runs(subject, question)
        checks |= carried_checks(subject, question, settings, swept, run)
        if question.wrongs:
            clean_run = run if question.same_length else None
            checks["direct_sum"] = direct_sum(subject, question, clean_run, plain[0])
        if audit and not settings.several and settings.replacement in ("other", "zero"):
            checks["hooked_cells"] = hooked_cells(
                subject, question, settings, swept.values, swept.first, audit
            )
    return checks
