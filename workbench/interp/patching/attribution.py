"""Attribution patching beside the exact map: how far its estimate can be trusted, cell by cell."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import Swept
from workbench.interp.patching.checks import run_checks
from workbench.interp.patching.gradients import Approximation, estimate_sweep
from workbench.interp.patching.pair_maps import cells, sweep_anyhow
from workbench.interp.patching.probe_maps import ALPHA, Probed, summary
from workbench.interp.prompts.able import require
from workbench.interp.prompts.probes import generate, own_items, read_probe
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record, peak
from workbench.statistics import Cells, Estimate, cell_statistics, map_correlation
from workbench.subjects import Subject, SubjectOrName

TOLERANCE = 0.1
"""Share of the way from the corrupted to the clean run by which an estimate may be off."""

ROUNDING = 1e-9
"""A normalised effect below this counts as no change."""

KINDS = {
    "not shown to mislead": "neither of the two",
    "off": "estimate and exact value differ by more than the tolerance",
    "wrong sign": "both differ from 0, in opposite directions",
}


@dataclass(frozen=True)
class Attribution(Record):
    """A probe's map estimated by gradients, and the exact map of the same pairs.

    - `estimate`, `exact`: effects normalised alike (0 corrupted runs, 1 clean runs); `exact` is
        None if it was not run
    - `correlation`: Pearson's r over the cells' mean changes, 95 % bootstrap interval over the
        pairs
    - `error`: estimate minus exact value in every cell, paired over the pairs
    - `kind`: how each cell misleads, of `KINDS`, at 5 % false discoveries and `tolerance`; for a
        single pair by `tolerance` alone
    """

    estimate: Probed
    exact: Probed | None
    steps: int
    softmax: bool
    tolerance: float
    correlation: Estimate | None = None
    error: Cells | None = None
    kind: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Prompt pairs."""
        return self.estimate.n

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of the model, by its name."""
        return self.estimate.model_hashes()

    def failed_checks(self) -> list[str]:
        """The checks of the exact map that failed, in words."""
        return self.estimate.failed_checks()

    def headline(self) -> str:
        """The result in a few words."""
        estimate = self.estimate
        largest = peak(estimate.to_frame(), "effect", estimate.axes)
        words = f"{estimate.probe}, {estimate.site}: {largest}, estimated"
        if self.correlation is None:
            return words
        r = self.correlation.value
        return f"{words}; r = {r:.3f} with the exact map, {self.misleading} cells mislead"

    @property
    def misleading(self) -> int:
        """How many cells mislead."""
        return 0 if self.kind is None else int((self.kind != "not shown to mislead").sum())

    def to_frame(self) -> pd.DataFrame:
        """One row per cell: its name, the axes, estimate, exact value and error with intervals."""
        estimate = self.estimate
        exact = self.exact
        error = self.error
        maps = {
            "estimate": estimate.effect,
            "estimate_low": estimate.low,
            "estimate_high": estimate.high,
        }
        if exact is not None and error is not None:
            maps |= {
                "exact": exact.effect,
                "exact_low": exact.low,
                "exact_high": exact.high,
                "exact_p": exact.p,
            }
            maps |= {
                "error": error.mean,
                "error_low": error.low,
                "error_high": error.high,
                "error_p": error.p,
            }
        frame = cells(estimate.axes, estimate.layers, **maps)
        frame.insert(0, "cell", cell_names(frame, estimate.names))
        return frame if self.kind is None else frame.assign(kind=self.kind.ravel())

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record: both maps, and their comparison as a table."""
        estimate = self.estimate
        return {
            **super().to_dict(),
            "subject": estimate.subject,
            "sha256": estimate.sha256,
            "probe": estimate.probe,
            "site": estimate.site,
            "direction": estimate.direction,
            "n": estimate.n,
            "metric": estimate.metric_name,
            "steps": self.steps,
            "softmax": self.softmax,
            "checks": estimate.checks,
            "seconds_estimate": estimate.seconds,
            "seconds_exact": self.exact and self.exact.seconds,
            "misleading": self.misleading,
            "cells": self.to_frame().to_dict("records"),
        }


def cell_names(frame: pd.DataFrame, names: list[str]) -> list[str]:
    """The names of a map's cells: `L3H1`, `L3 at {S2} (9)`, `L3H1 at to (13)`, `L3 neuron 7`."""
    labels = []
    for row in frame.to_dict("records"):
        label = f"L{row['layer']:.0f}"
        if "head" in row:
            label += f"H{row['head']:.0f}"
        if "neuron" in row:
            label += f" neuron {row['neuron']:.0f}"
        if "pos" in row:
            label += f" at {names[int(row['pos'])].strip()} ({row['pos']:.0f})"
        labels.append(label)
    return labels


@public("subject")
@own_modes
def attribution(  # noqa: PLR0913
    subject: SubjectOrName,
    probe: str | Sequence[str],
    *,
    n: int = 20,
    steps: int = 1,
    softmax: bool = False,
    exact: bool = True,
    tolerance: float = TOLERANCE,
    site: str = "resid_pre",
    direction: str = "denoising",
    metric: str | None = None,
    replacement: str = "other",
    layer: int | None = None,
    window: int = 1,
    also: str = "",
    noise: float = 3.0,
    seed: int = 0,
    anyway: bool = False,
    progress: Progress | None = None,
) -> Attribution:
    """A map estimated by attribution patching, compared with the exact map of the same pairs.

    Args:
        subject: The model.
        probe: A built-in probe, a .toml file, or one pair of your own: clean and corrupted prompt,
            answer and wrong answer, of one token each.
        n: Prompt pairs of a probe.
        steps: Inputs between the two prompts over which the gradient is averaged; 1 is plain
            attribution patching.
        softmax: Run attention exactly if queries or keys are patched, and be linear only after it.
        exact: Also run every patch.
        tolerance: How far an estimate may be off, as a share of the way from the corrupted to the
            clean runs.
        site: What is patched, one of `SITES`.
        direction: One of `DIRECTIONS`.
        metric: One of `METRICS`; None for the probe's own, and the logit difference for a pair of
            your own.
        replacement: Where the replacing activation comes from, one of `REPLACEMENTS`.
        layer: The one layer to sweep (needed for neurons); None for all.
        window: Layers replaced at once; only 1 can be estimated.
        also: The other of `attn_out` and `mlp_out`, replaced together with the site; cannot be
            estimated.
        noise: Standard deviation of the replacement `noise`, in standard deviations of the
            embedding (3, as Meng et al. 2022).
        seed: For the pairs drawn, noise and the resampled text.
        anyway: Go on even if the model cannot do the probe.
        progress: Called with the share done and a word about it.

    Raises:
        WorkbenchError: As `probe` does, and if the settings cannot be estimated.

    Reference:
        Nanda 2023; Kramar et al. 2024, arXiv:2403.00745.
    """
    subject = cast(Subject, subject)
    task = read_probe(probe) if isinstance(probe, str) else None
    how = Approximation(steps, softmax)
    metric = metric or (task.metric if task else "logit_difference")
    settings = Settings(site, direction, metric, replacement, layer, window, also, noise, seed=seed)
    settings.check(subject)
    how.check(settings)
    if settings.ablates:
        settings = replace(settings, direction="noising")
    if task is None:
        pairs = own_items(subject, probe)
    else:
        pairs = generate(subject, task, n, seed)
        if not anyway:
            require(subject, task, seed)
    estimates: list[Swept] = []
    exact_maps: list[Swept] = []
    seconds_estimate = 0.0
    seconds_exact = 0.0
    checks: dict[str, float] = {}
    ran_by = "packed"
    for i, item in enumerate(pairs.items):
        began = time.perf_counter()
        estimates.append(estimate_sweep(subject, item.pair, settings, how))
        seconds_estimate += time.perf_counter() - began
        if exact:
            began = time.perf_counter()
            swept, ran_by = sweep_anyhow(subject, item.pair, settings)
            exact_maps.append(swept)
            seconds_exact += time.perf_counter() - began
            if not i:
                checks = run_checks(
                    subject, item.pair, settings, swept, audit=1, packed=ran_by == "packed"
                )
        if progress is not None:
            progress((i + 1) / len(pairs.items), f"pair {i + 1} of {len(pairs.items)}")
    took = (seconds_estimate, "gradients")
    estimate = summary(subject, pairs, settings, estimates, took, checks)
    result = Attribution(estimate, None, steps, softmax, tolerance)
    if not exact:
        return result
    took = (seconds_exact, ran_by)
    result = replace(result, exact=summary(subject, pairs, settings, exact_maps, took, checks))
    return compared(result, np.array([swept.clean - swept.corrupted for swept in exact_maps]))


def compared(result: Attribution, gap: Float[np.ndarray, " n"]) -> Attribution:
    """The result with correlation, errors and misleading cells worked out; needs the exact map.

    Args:
        result: Both maps.
        gap: The clean run's metric minus the corrupted run's, one per pair.
    """
    estimate = result.estimate
    exact = result.exact
    assert exact is not None
    # What an unpatched run has: 0 for the corrupted run, each pair's own 1 for the clean run.
    start = np.zeros_like(gap) if exact.direction == "denoising" else gap / gap.mean()
    start = start.reshape((-1,) + (1,) * exact.effect.ndim)
    moved = [side.samples - start for side in (estimate, exact)]
    moved = [np.where(np.abs(side) < ROUNDING, 0.0, side) for side in moved]
    error = cell_statistics(estimate.samples - exact.samples, per=gap / gap.mean())
    kind = np.full(exact.effect.shape, "not shown to mislead", dtype="<U20")
    alone = exact.n == 1  # nothing to test: both values are this pair's own
    off = (np.abs(error.mean) > result.tolerance) & (alone | (error.p < ALPHA))
    kind[off] = "off"
    opposite = np.sign(moved[0].mean(0)) != np.sign(moved[1].mean(0))
    both_real = off if alone else estimate.significant & exact.significant
    kind[both_real & opposite] = "wrong sign"
    correlation = map_correlation(moved[0], moved[1])
    return replace(result, correlation=correlation, error=error, kind=kind)
