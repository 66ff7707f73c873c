"""A probe's many prompt pairs swept together: each cell's mean, interval and p-value."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pandas as pd

from workbench.errors import WorkbenchError
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sweep import Swept
from workbench.interp.patching.checks import failed, run_checks
from workbench.interp.patching.pair_maps import SMALLEST_SPAN, cells, sweeps_anyhow
from workbench.interp.patching.trust import must_hold
from workbench.interp.prompts.able import require
from workbench.interp.prompts.probes import Item, Items, generate, read_probe
from workbench.modes import own_modes
from workbench.progress import Progress, within
from workbench.public import public
from workbench.records import Record, peak
from workbench.statistics import Cells, Estimate, cell_statistics, estimate_mean
from workbench.subjects import Subject, SubjectOrName

LOOKS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Numbers of pairs after which the map so far is shown."""

ALPHA = 0.05
"""Share of false discoveries at which a cell counts as significant."""


@dataclass(frozen=True)
class Probed(Record):
    """A probe's map over `n` prompt pairs; arrays are laid out as `axes`.

    - `effect`, `low`, `high`: mean normalised effect (0 corrupted runs, 1 clean runs) with its 95 %
        bootstrap interval; normalised by the mean difference of clean and corrupted runs
    - `p`: p-value of a sign-flip test that a patch changes nothing, Benjamini-Hochberg corrected
        over the cells
    - `metric`: mean in the unit of `metric_name`
    - `samples`: effects per pair, `[n, *axes]`
    - `clean_metric`, `corrupted_metric`: of the unpatched runs
    - `right`: share of pairs in which both runs prefer their own answer
    - `names`: a label per position; with `by_name` the columns are the probe's named positions
    - `dropped`: unusable pairs, counted by reason
    - `checks`: of the first pair
    - `warnings`: how the prompts were read
    """

    subject: str
    sha256: str
    probe: str
    title: str
    site: str
    axes: tuple[str, ...]
    direction: str
    metric_name: str
    layers: list[int]
    names: list[str]
    items: list[dict[str, Any]]
    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    metric: np.ndarray
    samples: np.ndarray
    clean_metric: Estimate
    corrupted_metric: Estimate
    right: Estimate
    first_difference: int
    n: int
    dropped: dict[str, int]
    seconds: float
    engine: str
    replacement: str = "other"
    window: int = 1
    also: str = ""
    by_name: bool = False
    checks: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def failed_checks(self) -> list[str]:
        """The checks that failed, in words."""
        return failed(self.checks)

    def headline(self) -> str:
        """The result in a few words."""
        shown = f"{int(self.significant.sum())} of {self.p.size} cells at 5 % false discoveries"
        largest = peak(self.to_frame(), "effect", self.axes)
        return f"{self.probe}, {self.site}, {self.direction}: {largest}; {shown}"

    @property
    def significant(self) -> np.ndarray:
        """Cells where a patch changes the answer, at 5 % false discoveries."""
        return self.p < ALPHA

    def to_frame(self) -> pd.DataFrame:
        """One row per cell: the axes, `effect` with `low`, `high` and `p`, and `metric`."""
        maps = {name: getattr(self, name) for name in ("effect", "low", "high", "p", "metric")}
        return cells(self.axes, self.layers, **maps)


@public("subject")
@own_modes
def probe(  # noqa: PLR0913
    subject: SubjectOrName,
    probe: str,
    *,
    n: int = 50,
    site: str = "resid_pre",
    direction: str = "denoising",
    metric: str | None = None,
    replacement: str = "other",
    layer: int | None = None,
    window: int = 1,
    also: str = "",
    noise: float = 3.0,
    memory_gb: float = 1.0,
    seed: int = 0,
    anyway: bool = False,
    by_name: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    partial: Callable[[Probed], None] | None = None,
) -> Probed:
    """The patching map of a probe: `n` prompt pairs swept exactly, each cell with an interval.

    Args:
        subject: The model.
        probe: A built-in probe or a .toml file; see `interp.prompts.probes`.
        n: Prompt pairs.
        site: What is patched, one of `SITES`.
        direction: One of `DIRECTIONS`.
        metric: One of `METRICS`; None for the probe's own.
        replacement: Where the replacing activation comes from, one of `REPLACEMENTS`.
        layer: The one layer to sweep (needed for neurons); None for all.
        window: Layers replaced at once (`attn_out` and `mlp_out` only).
        also: The other of `attn_out` and `mlp_out`, replaced together with the site.
        noise: Standard deviation of the replacement `noise`, in standard deviations of the
            embedding (3, as Meng et al. 2022).
        memory_gb: Limit for the packed rows, in GiB.
        seed: For the pairs drawn, noise and the resampled text.
        anyway: Sweep even if the model cannot do the probe.
        by_name: Align the pairs by the positions that the probe names (subject, verb, last token),
            whatever their lengths; the map's columns are the names. Sites by position only.
        strict: Raise if a check of the first pair fails.
        progress: Called with the share done and a word about it.
        partial: Called with the map so far, after 1, 2, 4, 8 ... pairs.

    Raises:
        WorkbenchError: The model does the probe no better than chance, there is no such probe or
            setting, or the tokenizer leaves too few usable pairs.
    """
    subject = cast(Subject, subject)
    task = read_probe(probe)
    metric = metric or task.metric
    settings = Settings(
        site, direction, metric, replacement, layer, window, also, noise, memory_gb, seed
    )
    settings.check(subject)
    if settings.ablates:
        settings = replace(settings, direction="noising")
    pairs = generate(subject, task, n, seed, by_name=by_name)
    if not anyway:
        require(subject, task, seed)
    result = sweep_items(subject, pairs, settings, progress=progress, seen=partial)
    must_hold(result.checks, strict)
    return result


def sweep_items(
    subject: Subject,
    pairs: Items,
    settings: Settings,
    *,
    progress: Progress | None = None,
    seen: Callable[[Probed], None] | None = None,
) -> Probed:
    """The map of a list of pairs of one length.

    Args:
        subject: The model.
        pairs: The prompt pairs; at least one.
        settings: What is swept.
        progress: Called with the share done and a word about it.
        seen: Called with the map so far, after 1, 2, 4, 8 ... pairs.
    """
    began = time.perf_counter()
    maps: list[Swept] = []
    result: Probed | None = None
    first_checks: dict[str, float] = {}
    n = len(pairs.items)
    looks = [*(i for i in LOOKS if i < n and seen is not None), n]
    for low, high in pairwise([0, *looks]):
        batch = [item.pair for item in pairs.items[low:high]]
        report = within(progress, low / n, (high - low) / n)
        swept, how = sweeps_anyhow(subject, batch, settings, report)
        if not maps:
            first_checks = run_checks(
                subject, batch[0], settings, swept[0], audit=1, packed=how == "packed"
            )
        maps += swept
        seconds = time.perf_counter() - began
        result = summary(subject, pairs, settings, maps, (seconds, how), first_checks)
        if seen is not None:
            seen(result)
    assert result is not None, "no pairs"
    return result


def summary(
    subject: Subject,
    pairs: Items,
    settings: Settings,
    maps: Sequence[Swept],
    took: tuple[float, str],
    checks: dict[str, float],
) -> Probed:
    """The maps of several pairs as one, each cell with its interval and p-value.

    Args:
        subject: The model.
        pairs: The prompt pairs.
        settings: What was swept.
        maps: The maps of the first pairs, or of all.
        took: Time in seconds, and the name of the engine.
        checks: Of the first pair.
    """
    clean = np.array([swept.clean for swept in maps])
    corrupted = np.array([swept.corrupted for swept in maps])
    span = float((clean - corrupted).mean())
    if abs(span) < SMALLEST_SPAN:
        raise WorkbenchError(
            f"Over {len(maps)} pairs the clean and the corrupted runs give the same "
            f"{settings.metric} on average, so there is nothing to restore; choose another metric "
            "or probe."
        )
    values = np.stack([swept.values.double().numpy() for swept in maps])
    shape = (-1,) + (1,) * (values.ndim - 1)
    samples = (values - corrupted.reshape(shape)) / span
    unpatched = (corrupted if settings.direction == "denoising" else clean).reshape(shape)
    change: Cells = cell_statistics(values - unpatched, per=clean - corrupted)
    offset = samples.mean(0) - change.mean
    return Probed(
        subject=subject.name,
        sha256=subject.hash,
        probe=pairs.probe.name,
        title=pairs.probe.title,
        site=settings.site,
        axes=SITES[settings.site],
        direction=settings.direction,
        metric_name=settings.metric,
        layers=settings.layers(subject),
        names=pairs.names,
        items=[_record(item) for item in pairs.items[: len(maps)]],
        effect=samples.mean(0),
        low=change.low + offset,
        high=change.high + offset,
        p=change.p,
        metric=values.mean(0),
        samples=samples,
        clean_metric=estimate_mean(clean),
        corrupted_metric=estimate_mean(corrupted),
        right=estimate_mean(((clean - corrupted) * np.sign(span) > 0).astype(float)),
        first_difference=min(swept.first for swept in maps),
        n=len(maps),
        dropped=pairs.dropped,
        seconds=took[0],
        engine=took[1],
        replacement=settings.replacement,
        window=settings.window,
        also=settings.also,
        by_name=bool(pairs.items[0].pair.places),
        checks=checks,
        warnings=subject.notices(
            *(text for item in pairs.items for text in (item.clean, item.corrupted))
        ),
    )


def _record(item: Item) -> dict[str, Any]:
    return {
        "clean": item.clean,
        "corrupted": item.corrupted,
        "answer": item.answers,
        "wrong": item.wrongs,
    }
