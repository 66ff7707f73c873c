"""The patching record of an encoder or encoder-decoder."""

import time
from dataclasses import replace

from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sites import SITES
from workbench.interp.patching.pair_maps import Patching, check_span, listed
from workbench.interp.patching.stack_maps import (
    ENGINE,
    metric_for,
    prepare,
    stack_checks,
    stack_sweep,
)
from workbench.interp.patching.trust import must_hold
from workbench.interp.prompts.gaps import gap
from workbench.interp.prompts.pairs import Words
from workbench.interp.stacks.runs import stacks_of
from workbench.interp.stacks.structure import ENCODER
from workbench.progress import Progress
from workbench.subjects import Subject


def patch_stack(
    subject: Subject,
    given: tuple[str, str, Words, Words],
    settings: Settings,
    part: str,
    target: str,
    *,
    audit: int,
    strict: bool,
    progress: Progress | None,
) -> Patching:
    """The patching map of `patch` for an encoder or encoder-decoder.

    Args:
        subject: The model.
        given: Clean prompt, corrupted prompt, answers, wrong answers.
        settings: What is swept.
        part: Which part of an encoder-decoder; "" for its cross-attention.
        target: What its decoder has written so far, before the answer.
        audit: Random cells to recompute, one whole run each.
        strict: Raise if one of the map's checks fails.
        progress: Called with the share done and a word about it.

    Raises:
        WorkbenchError: As `patch` does.
    """
    stacks = stacks_of(subject)
    part = stacks.need_part(part)
    settings.check(subject, stacks.n_layers(part))
    if settings.ablates:
        settings = replace(settings, direction="noising")
    clean, corrupted, answer, wrong = given
    question = gap(subject, clean, corrupted, answer, wrong, target)
    began = time.perf_counter()
    sweep = prepare(subject, question, settings, part)
    swept = stack_sweep(sweep, metric_for(sweep), progress)
    seconds = time.perf_counter() - began
    check_span(swept, settings.metric)
    checks = stack_checks(subject, sweep, swept, audit=audit)
    must_hold(checks, strict)
    sides = question.question.prompts
    if part != ENCODER and question.written is not None:
        sides = (question.written, question.written)
    return Patching(
        subject=subject.name,
        sha256=subject.hash,
        site=settings.site,
        axes=SITES[settings.site],
        direction=settings.direction,
        effect=swept.effect.tolist(),
        metric=swept.values.tolist(),
        clean_metric=swept.clean,
        corrupted_metric=swept.corrupted,
        clean=clean,
        corrupted=corrupted,
        answer=",".join(listed(answer)),
        wrong=",".join(listed(wrong)),
        clean_tokens=subject.tokens(sides[0]),
        corrupted_tokens=subject.tokens(sides[1]),
        first_difference=0,
        seconds=seconds,
        engine=ENGINE,
        metric_name=settings.metric,
        checks=checks,
        replacement=settings.replacement,
        window=settings.window,
        also=settings.also,
        layers=sweep.layers,
        warnings=subject.notices(clean, corrupted),
        part=part,
        target=target,
    )
