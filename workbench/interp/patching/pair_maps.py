"""Activation patching: what the answer becomes when one activation of a run is taken from another
run.

*Denoising* puts clean activations into the corrupted run, *noising* corrupted ones into the clean
    run. Effects are
normalised: 0 is the corrupted run, 1 the clean run. Method: Vig et al. 2020, Meng et al. 2022;
    practice: Heimersheim
& Nanda 2024. The values are exact (no gradient approximation).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.errors import WorkbenchError
from workbench.interp.engine.hooked import hooked, hooked_sweep
from workbench.interp.engine.metrics import METRICS, SIDES
from workbench.interp.engine.packed import UnpackableError
from workbench.interp.engine.settings import DIRECTIONS, Settings
from workbench.interp.engine.sites import REPLACEMENTS, SITES
from workbench.interp.engine.sweep import Swept, run_sweep, sweep
from workbench.interp.patching.checks import failed, run_checks
from workbench.interp.patching.trust import must_hold
from workbench.interp.prompts.pairs import Pair, Words, pair, warnings
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record, peak
from workbench.subjects import SubjectOrName

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


@dataclass(frozen=True)
class Patching(Record):
    """A sweep's result: one cell a patched run.

    - `effect`: normalised (0 corrupted, 1 clean), nested lists laid out as `axes`; `metric`: the
      same in the unit of `metric_name`; row i is layer `layers[i]`
    - `clean_metric`, `corrupted_metric`: the metric of the two unpatched runs
    - `clean_tokens`, `corrupted_tokens`: one string a position; `n`: prompt pairs averaged (1: no
        interval)
    - `spelt`: the tokens of each answer, then each wrong one, where one has several
    - `checks`: what was verified on this very map, as differences in the metric's unit
    - `warnings`: what is known to spoil such results
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

    def failed_checks(self) -> list[str]:
        """The checks that did not hold, in words."""
        return failed(self.checks)

    def headline(self) -> str:
        """What was found, in a few words."""
        ends = f"{self.metric_name} {self.clean_metric:+.3f} clean, {self.corrupted_metric:+.3f} corrupted"
        return (
            f"{self.site}, {self.direction}: {ends}; {peak(self.to_frame(), 'effect', self.axes)}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a cell: the axes, `effect` and `metric`."""
        return cells(self.axes, self.layers, effect=self.effect, metric=self.metric)


def cells(axes: Sequence[str], layers: Sequence[int], **values: Any) -> pd.DataFrame:
    """Maps of one shape as a table: a column an axis, then a column a map."""
    arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    where = np.indices(next(iter(arrays.values())).shape).reshape(len(axes), -1)
    columns = dict(zip(axes, where, strict=True))
    if layers:
        columns["layer"] = np.asarray(layers)[columns["layer"]]
    return pd.DataFrame({**columns, **{name: array.ravel() for name, array in arrays.items()}})


@public("subject")
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
    memory_gb: float = 1.0,
    seed: int = 0,
    audit: int = 1,
    strict: bool = False,
    progress: Progress | None = None,
) -> Patching:
    """Sweep one site over the whole model, exactly.

    The metric is read at the last position; of an answer of several tokens it is read where each of
    them is predicted, those before it given (`metrics.SIDES` has the metrics that take such
    answers). `audit` random cells are recomputed by TransformerLens's hooks, one run each, and the
    greatest difference is reported in `checks`. Architectures that the packed engine cannot run go
    through the hooks, and say so.

    Args:
        subject: The model.
        clean: The prompt with the right answer.
        corrupted: As many tokens, another answer.
        answer: What the clean prompt leads to: a word or a whole continuation, or several.
        wrong: What the corrupted prompt leads to.
        site: What is patched, one of `SITES`.
        direction: One of `DIRECTIONS`.
        metric: One of `METRICS`.
        replacement: Where the replacing activation comes from, one of `REPLACEMENTS`.
        layer: The one layer to sweep (neurons need one); None for all.
        window: Layers replaced at once (attn_out and mlp_out).
        also: The other of attn_out and mlp_out, replaced together with the site.
        noise: Standard deviations of the embedding, for the replacement of that name.
        memory_gb: What the packed rows may take.
        seed: Of noise, of the resampled text and of the audited cells.
        audit: Cells to recompute by hooks.
        strict: Raise where one of the map's checks does not hold.
        progress: Called with the share done and a word about it.

    Raises `WorkbenchError` for anything wrong with the prompts, the answers or the settings, and,
    where `strict`, for a check that does not hold.
    """
    settings = Settings(
        site, direction, metric, replacement, layer, window, also, noise, memory_gb, seed
    )
    settings.check(subject)
    if settings.ablates:
        settings = replace(settings, direction="noising")
    question = pair(subject, clean, corrupted, answer, wrong, spelt=True)
    if question.parts and metric not in SIDES:
        raise WorkbenchError(
            f"The metric {metric} is read off one prediction, and an answer here has several tokens; give answers of "
            f"a single token, or choose {', '.join(SIDES)}, which take whole continuations."
        )
    began, how = time.perf_counter(), "packed"
    try:
        swept = run_sweep(subject, question, settings, progress)
    except UnpackableError as error:
        swept = hooked(subject, question, settings, progress=progress)
        how = f"hooks ({error})"
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
        answer=",".join(_listed(answer)),
        wrong=",".join(_listed(wrong)),
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
        warnings=warnings(subject, clean, corrupted, [*_listed(answer), *_listed(wrong)]),
    )


def check_span(swept: Swept, metric: str) -> None:
    """Raise `WorkbenchError` where clean and corrupted run are alike, so that no effect can be
    normalised.
    """
    if not abs(swept.clean - swept.corrupted) >= SMALLEST_SPAN:
        raise WorkbenchError(
            f"The clean and the corrupted run give the same {metric.replace('_', ' ')} ({swept.clean:.4f}), so there "
            "is nothing to restore; choose prompts, answers or a metric that the model tells apart."
        )


def _listed(words: Words) -> list[str]:
    return [words] if isinstance(words, str) else list(words)
