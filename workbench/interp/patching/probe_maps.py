"""A probe's many pairs swept together: every cell with its mean, interval and p-value."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import WorkbenchError
from workbench.interp.engine.hooked import hooked
from workbench.interp.engine.packed import UnpackableError
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sweep import Swept, run_sweep
from workbench.interp.patching.checks import failed, run_checks
from workbench.interp.patching.pair_maps import SMALLEST_SPAN, cells
from workbench.interp.patching.trust import must_hold
from workbench.interp.prompts.able import require
from workbench.interp.prompts.pairs import Pair
from workbench.interp.prompts.probes import Item, Items, generate, read_probe
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record, peak
from workbench.statistics import Cells, Estimate, cell_statistics, estimate_mean
from workbench.subjects import Subject, SubjectOrName

ALPHA = 0.05


@dataclass(frozen=True)
class Probed(Record):
    """A probe's map over `n` prompt pairs; arrays are laid out as `axes`.

    - `effect`, `low`, `high`: mean normalised effect (0 corrupted runs, 1 clean runs) with its 95 %
      bootstrap interval; the norm is the mean difference of clean and corrupted runs over all pairs
    - `p`: sign-flip p that a patch changes nothing, Benjamini-Hochberg over the cells
    - `metric`: mean in the unit of `metric_name`; `samples`: effects a pair, `[n, *axes]`
    - `clean_metric`, `corrupted_metric`: the unpatched runs; `right`: share of pairs in which both
      runs prefer their own answer
    - `names`: a label a position; with `by_name` the map's columns are the positions that the probe
        names
    - `dropped`: pairs that could not be used, by reason; `checks`: of the first pair
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
        """The checks that did not hold, in words."""
        return failed(self.checks)

    def headline(self) -> str:
        """What was found, in a few words."""
        shown = f"{int(self.significant.sum())} of {self.p.size} cells at 5 % false discoveries"
        return f"{self.probe}, {self.site}, {self.direction}: {peak(self.to_frame(), 'effect', self.axes)}; {shown}"

    @property
    def significant(self) -> np.ndarray:
        """Cells where a patch changes the answer, at 5 % false discoveries."""
        return self.p < ALPHA

    def to_frame(self) -> pd.DataFrame:
        """One row a cell: the axes, `effect` with `low`, `high` and `p`, and `metric`."""
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
    """Sweep `n` pairs of a probe, exactly, and give every cell its interval.

    Args:
        subject: The model.
        probe: A probe of the shelf or a .toml file; see `interp.prompts.probes`.
        n: Prompt pairs.
        site: What is patched, one of `SITES`.
        direction: One of `DIRECTIONS`.
        metric: One of `METRICS`; None for the probe's own.
        replacement: Where the replacing activation comes from, one of `REPLACEMENTS`.
        layer: The one layer to sweep (neurons need one); None for all.
        window: Layers replaced at once (attn_out and mlp_out).
        also: The other of attn_out and mlp_out, replaced together with the site.
        noise: Standard deviations of the embedding, for the replacement of that name.
        memory_gb: What the packed rows may take.
        seed: Of the pairs drawn, of noise and of the resampled text.
        anyway: Sweep although the model cannot do the probe.
        by_name: Align the pairs by the positions that the probe names (subject, verb, last token),
            whatever their lengths; the map's columns are the names. Sites by position only.
        strict: Raise where a check of the first pair does not hold.
        progress: Called with the share done and a word about it.
        partial: Called with the map so far, after 1, 2, 4, 8 ... pairs.

    Raises `WorkbenchError` for a model that does the probe no better than chance, for an unknown
    probe or setting, and for a tokenizer that leaves too few pairs.
    """
    asked = read_probe(probe)
    metric = metric or asked.metric
    settings = Settings(
        site, direction, metric, replacement, layer, window, also, noise, memory_gb, seed
    )
    settings.check(subject)
    if settings.ablates:
        settings = replace(settings, direction="noising")
    made = generate(subject, asked, n, seed, by_name=by_name)
    if not anyway:
        require(subject, asked, seed)
    found = sweep_items(subject, made, settings, progress=progress, seen=partial)
    must_hold(found.checks, strict)
    return found


def sweep_items(
    subject: Subject,
    made: Items,
    settings: Settings,
    *,
    progress: Progress | None = None,
    seen: Callable[[Probed], None] | None = None,
) -> Probed:
    """The map of a list of pairs of one length."""
    began, found = time.perf_counter(), []
    first_checks: dict[str, float] = {}
    for i, item in enumerate(made.items):
        swept, how = sweep_anyhow(subject, item.pair, settings)
        if not i:
            first_checks = run_checks(
                subject, item.pair, settings, swept, audit=1, packed=how == "packed"
            )
        found.append(swept)
        last = i + 1 == len(made.items)
        if progress is not None:
            progress((i + 1) / len(made.items), f"pair {i + 1} of {len(made.items)}")
        if last or (seen is not None and i + 1 in (1, 2, 4, 8, 16, 32, 64, 128)):
            seconds = time.perf_counter() - began
            result = summary(subject, made, settings, found, (seconds, how), first_checks)
            if seen is not None:
                seen(result)
    return result  # pyright: ignore[reportPossiblyUnboundVariable]


def sweep_anyhow(
    subject: Subject, question: Pair, settings: Settings, progress: Progress | None = None
) -> tuple[Swept, str]:
    """A question's map by the packed engine, or by hooks where that cannot run the model, and which
    it was.
    """
    try:
        return run_sweep(subject, question, settings, progress), "packed"
    except UnpackableError as error:
        return hooked(subject, question, settings, progress=progress), f"hooks ({error})"


def summary(
    subject: Subject,
    made: Items,
    settings: Settings,
    found: Sequence[Swept],
    took: tuple[float, str],
    checks: dict[str, float],
) -> Probed:
    """The maps of several pairs as one; `took` is the time in seconds and the engine's name."""
    clean, corrupted = (
        np.array([getattr(s, side) for s in found]) for side in ("clean", "corrupted")
    )
    span = float((clean - corrupted).mean())
    if abs(span) < SMALLEST_SPAN:
        raise WorkbenchError(
            f"Over {len(found)} pairs the clean and the corrupted runs give the same {settings.metric} on average, so "
            "there is nothing to restore; choose another metric or probe."
        )
    values = np.stack([s.values.double().numpy() for s in found])
    shape = (-1,) + (1,) * (values.ndim - 1)
    samples = (values - corrupted.reshape(shape)) / span
    unpatched = (corrupted if settings.direction == "denoising" else clean).reshape(shape)
    change: Cells = cell_statistics(values - unpatched, per=clean - corrupted)
    offset = samples.mean(0) - change.mean
    return Probed(
        subject=subject.name,
        sha256=subject.hash,
        probe=made.probe.name,
        title=made.probe.title,
        site=settings.site,
        axes=SITES[settings.site],
        direction=settings.direction,
        metric_name=settings.metric,
        layers=settings.layers(subject),
        names=made.names,
        items=[_record(item) for item in made.items[: len(found)]],
        effect=samples.mean(0),
        low=change.low + offset,
        high=change.high + offset,
        p=change.p,
        metric=values.mean(0),
        samples=samples,
        clean_metric=estimate_mean(clean),
        corrupted_metric=estimate_mean(corrupted),
        right=estimate_mean(((clean - corrupted) * np.sign(span) > 0).astype(float)),
        first_difference=min(s.first for s in found),
        n=len(found),
        dropped=made.dropped,
        seconds=took[0],
        engine=took[1],
        replacement=settings.replacement,
        window=settings.window,
        also=settings.also,
        by_name=bool(made.items[0].pair.places),
        checks=checks,
        warnings=subject.notices(
            *(text for item in made.items for text in (item.clean, item.corrupted))
        ),
    )


def _record(item: Item) -> dict[str, Any]:
    return {
        "clean": item.clean,
        "corrupted": item.corrupted,
        "answer": item.answers,
        "wrong": item.wrongs,
    }
