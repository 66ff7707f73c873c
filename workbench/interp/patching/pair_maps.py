"""Activation patching of one prompt pair: every cell is one run with an activation replaced.

*Denoising* puts clean activations into the corrupted run, *noising* corrupted ones into the clean
run. Effects are normalised: 0 is the corrupted run, 1 the clean run. Method: Vig et al. 2020, Meng
et al. 2022; practice: Heimersheim & Nanda 2024. The values are exact (no gradient approximation).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from workbench.errors import WorkbenchError
from workbench.interp.engine.hooked import hooked, hooked_sweep
from workbench.interp.engine.metrics import METRICS, SIDES
from workbench.interp.engine.packed import UnpackableError
from workbench.interp.engine.settings import DIRECTIONS, Settings
from workbench.interp.engine.sites import REPLACEMENTS, SITES
from workbench.interp.engine.sweep import Swept, run_sweeps, sweep
from workbench.interp.patching.checks import failed, run_checks
from workbench.interp.patching.trust import must_hold
from workbench.interp.prompts.pairs import Pair, Words, pair, warnings
from workbench.modes import own_modes
from workbench.progress import Progress, within
from workbench.public import public
from workbench.records import Record, peak
from workbench.subjects import Subject, SubjectOrName
from workbench.subjects.kinds import DECODER

__all__ = [
    "DIRECTIONS",
    "METRICS",
    "REPLACEMENTS",
    "SITES",
    "Pair",
    "Patching",
    "hooked_sweep",
    "pair",
    "patch",
    "sweep",
]

SMALLEST_SPAN = 1e-6
"""Difference of the clean and the corrupted metric below which nothing can be normalised by it."""


@dataclass(frozen=True)
class Patching(Record):
    """A patching map; every cell is one patched run.

    - `effect`: normalised (0 corrupted, 1 clean), nested lists laid out as `axes`; row i is layer
        `layers[i]`
    - `metric`: the same in the unit of `metric_name`
    - `clean_metric`, `corrupted_metric`: the metric of the two unpatched runs
    - `clean_tokens`, `corrupted_tokens`: one string per position; in a decoder's part of an
        encoder-decoder what is written, the same in both
    - `n`: prompt pairs averaged (1: no interval)
    - `spelt`: the tokens of each answer, then of each wrong one, if one has several
    - `checks`: what was verified on this very map, as differences in the metric's unit
    - `warnings`: known problems of prompts and answers like these
    - `part`, `target`: of an encoder or encoder-decoder, what was swept and what was written before
        the answer
    """

    subject: str
    sha256: str
    site: str
    axes: tuple[str, ...]
    direction: str
    effect: list
    metric: list
    clean_metric: float
    corrupted_metric: float
    clean: str
    corrupted: str
    answer: str
    wrong: str
    clean_tokens: list[str]
    corrupted_tokens: list[str]
    first_difference: int
    seconds: float
    engine: str
    n: int = 1
    metric_name: str = "logit_difference"
    spelt: list[list[str]] = field(default_factory=list)
    checks: dict[str, float] = field(default_factory=dict)
    replacement: str = "other"
    window: int = 1
    also: str = ""
    layers: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    part: str = ""
    target: str = ""

    def failed_checks(self) -> list[str]:
        """The checks that failed, in words."""
        return failed(self.checks)

    def headline(self) -> str:
        """The result in a few words."""
        clean = f"{self.metric_name} {self.clean_metric:+.3f} clean"
        corrupted = f"{self.corrupted_metric:+.3f} corrupted"
        largest = peak(self.to_frame(), "effect", self.axes)
        where = f"{self.part} {self.site}" if self.part else self.site
        return f"{where}, {self.direction}: {clean}, {corrupted}; {largest}"

    def to_frame(self) -> pd.DataFrame:
        """One row per cell: the axes, `effect` and `metric`."""
        return cells(self.axes, self.layers, effect=self.effect, metric=self.metric)


def cells(axes: Sequence[str], layers: Sequence[int], **values: Any) -> pd.DataFrame:
    """Maps of one shape as a table: one column per axis, then one per map.

    Args:
        axes: Names of the axes.
        layers: The layer of each row; empty where row i is layer i.
        **values: The maps, by the name of their column.
    """
    arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    where = np.indices(next(iter(arrays.values())).shape).reshape(len(axes), -1)
    columns = dict(zip(axes, where, strict=True))
    if layers:
        columns["layer"] = np.asarray(layers)[columns["layer"]]
    return pd.DataFrame({**columns, **{name: array.ravel() for name, array in arrays.items()}})


@public("subject", seq2seq=True, encoder=True)
@own_modes
def patch(  # noqa: PLR0913
    subject: SubjectOrName,
    clean: str,
    corrupted: str,
    *,
    answer: Words,
    wrong: Words,
    site: str = "resid_pre",
    direction: str = "denoising",
    metric: str = "logit_difference",
    replacement: str = "other",
    layer: int | None = None,
    window: int = 1,
    also: str = "",
    noise: float = 3.0,
    part: str = "",
    target: str = "",
    memory_gb: float = 1.0,
    seed: int = 0,
    audit: int = 1,
    strict: bool = False,
    progress: Progress | None = None,
) -> Patching:
    """The patching map of one prompt pair: one site swept over the whole model, exactly.

    The metric is read at the last position; for an answer of several tokens, where each of them is
    predicted given those before it (`metrics.SIDES` has the metrics that take such answers).
    Architectures that the packed engine cannot run go through hooks, and the result's `engine` says
    so.

    An encoder's answer is read at its mask token, an encoder-decoder's after `target`.

    Args:
        subject: The model.
        clean: Clean prompt, the one with the right answer.
        corrupted: Corrupted prompt. Must tokenize to the same length as `clean`.
        answer: What the clean prompt leads to: a word or a whole continuation, or several.
        wrong: What the corrupted prompt leads to.
        site: What is patched, one of `SITES`.
        direction: One of `DIRECTIONS`.
        metric: One of `METRICS`.
        replacement: Where the replacing activation comes from, one of `REPLACEMENTS`.
        layer: The one layer to sweep (needed for neurons); None for all.
        window: Layers replaced at once (`attn_out` and `mlp_out` only).
        also: The other of `attn_out` and `mlp_out`, replaced together with the site.
        noise: Standard deviation of the replacement `noise`, in standard deviations of the
            embedding (3, as Meng et al. 2022).
        part: Which part of an encoder-decoder: encoder, decoder or cross; "" for cross, and for
            models that have one part.
        target: What its decoder has written so far, before the answer.
        memory_gb: Limit for the packed rows, in GiB.
        seed: For noise, the resampled text and the audited cells.
        audit: Random cells to recompute by hooks, one run each; the largest difference is in
            `checks`.
        strict: Raise if one of the map's checks fails.
        progress: Called with the share done and a word about it.

    Raises:
        WorkbenchError: Prompts, answers or settings do not fit, or, with `strict`, a check fails.

    Reference:
        Meng et al. 2022, arXiv:2202.05262; Heimersheim & Nanda 2024, arXiv:2404.15255.
    """
    subject = cast(Subject, subject)
    settings = Settings(
        site, direction, metric, replacement, layer, window, also, noise, memory_gb, seed
    )
    if subject.kind != DECODER:
        from workbench.interp.patching.stack_patch import patch_stack

        return patch_stack(
            subject,
            (clean, corrupted, answer, wrong),
            settings,
            part,
            target,
            audit=audit,
            strict=strict,
            progress=progress,
        )
    if part or target:
        raise WorkbenchError(
            f"{subject.name} is a decoder-only model: it has no {part or 'target'} to choose."
        )
    settings.check(subject)
    if settings.ablates:
        settings = replace(settings, direction="noising")
    question = pair(subject, clean, corrupted, answer, wrong, spelt=True)
    if question.parts and metric not in SIDES:
        raise WorkbenchError(
            f"The metric {metric} is read off one prediction, and an answer here has several "
            f"tokens; give answers of a single token, or choose {', '.join(SIDES)}, which take "
            "whole continuations."
        )
    began = time.perf_counter()
    swept, how = sweep_anyhow(subject, question, settings, progress)
    seconds = time.perf_counter() - began
    check_span(swept, metric)
    checks = run_checks(subject, question, settings, swept, audit=audit, packed=how == "packed")
    must_hold(checks, strict)
    return Patching(
        subject=subject.name,
        sha256=subject.hash,
        site=site,
        axes=SITES[site],
        direction=settings.direction,
        effect=swept.effect.tolist(),
        metric=swept.values.tolist(),
        clean_metric=swept.clean,
        corrupted_metric=swept.corrupted,
        clean=clean,
        corrupted=corrupted,
        answer=",".join(listed(answer)),
        wrong=",".join(listed(wrong)),
        clean_tokens=subject.tokens(question.clean),
        corrupted_tokens=subject.tokens(question.corrupted),
        first_difference=question.first_difference,
        seconds=seconds,
        engine=how,
        metric_name=metric,
        spelt=[subject.tokens(torch.tensor(part.answers)) for part in question.parts],
        checks=checks,
        replacement=settings.replacement,
        window=settings.window,
        also=settings.also,
        layers=settings.layers(subject),
        warnings=warnings(subject, clean, corrupted, [*listed(answer), *listed(wrong)]),
    )


def sweep_anyhow(
    subject: Subject, question: Pair, settings: Settings, progress: Progress | None = None
) -> tuple[Swept, str]:
    """A question's map by the packed engine, or by hooks if the engine cannot run the model.

    Args:
        subject: The model.
        question: The prompts and their answers.
        settings: What is swept.
        progress: Called with the share done and a word about it.

    Returns:
        The map, and which of the two it was: `packed`, or `hooks` with the reason.
    """
    maps, how = sweeps_anyhow(subject, [question], settings, progress)
    return maps[0], how


def sweeps_anyhow(
    subject: Subject,
    questions: Sequence[Pair],
    settings: Settings,
    progress: Progress | None = None,
) -> tuple[list[Swept], str]:
    """The maps of several questions, as `sweep_anyhow` gives one.

    Args:
        subject: The model.
        questions: The prompts and their answers.
        settings: What is swept.
        progress: Called with the share done and a word about it.
    """
    try:
        return run_sweeps(subject, questions, settings, progress), "packed"
    except UnpackableError as error:
        n = len(questions)
        maps = [
            hooked(subject, question, settings, progress=within(progress, i / n, 1 / n))
            for i, question in enumerate(questions)
        ]
        return maps, f"hooks ({error})"


def check_span(swept: Swept, metric: str) -> None:
    """Raise `WorkbenchError` if clean and corrupted run are alike, so that nothing normalises."""
    if not abs(swept.clean - swept.corrupted) >= SMALLEST_SPAN:
        raise WorkbenchError(
            f"The clean and the corrupted run give the same {metric.replace('_', ' ')} "
            f"({swept.clean:.4f}), so there is nothing to restore; choose prompts, answers or a "
            "metric that the model tells apart."
        )


def listed(words: Words) -> list[str]:
    """The words, of which there may be one."""
    return [words] if isinstance(words, str) else list(words)
