"""Attribution patching beside the exact map: how far the gradient's estimate can be trusted, cell
by cell.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.interp.engine.settings import Settings
from workbench.interp.patching.checks import run_checks
from workbench.interp.patching.gradients import Approximation, estimate_sweep
from workbench.interp.patching.pair_maps import cells
from workbench.interp.patching.probe_maps import ALPHA, Probed, summary, sweep_anyhow
from workbench.interp.prompts.able import require
from workbench.interp.prompts.probes import generate, own_items, read_probe
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record, peak
from workbench.statistics import Cells, Estimate, cell_statistics, map_correlation
from workbench.subjects import SubjectOrName

TOLERANCE = 0.1
"""Share of the way from the corrupted to the clean run by which an estimate may be off."""

ROUNDING = 1e-9
"""An effect below this is a run that was not changed."""

KINDS = {
    "not shown to mislead": "neither of the two",
    "off": "estimate and exact value differ by more than the tolerance",
    "wrong sign": "both differ from 0, in opposite directions",
}


@dataclass(frozen=True)
class Attribution(Record):
    """A probe's map estimated by gradients, and the exact one of the same pairs (None where it was
    not asked for).

    - `estimate`, `exact`: both as `Probed`, effects normalised alike (0 corrupted runs, 1 clean
        runs)
    - `correlation`: Pearson's r over the cells' mean changes, 95 % bootstrap interval over the
        pairs
    - `error`: estimate less exact value in every cell, paired over the pairs
    - `kind`: how each cell misleads, of `KINDS`, at 5 % false discoveries and `tolerance`; of one
      pair alone, by `tolerance`
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
        """The checks of the exact map that did not hold, in words."""
        return self.estimate.failed_checks()

    def headline(self) -> str:
        """What was found, in a few words."""
        found = self.estimate
        words = f"{found.probe}, {found.site}: {peak(found.to_frame(), 'effect', found.axes)}, estimated"
        if self.correlation is None:
            return words
        return f"{words}; r = {self.correlation.value:.3f} with the exact map, {self.misleading} cells mislead"

    @property
    def misleading(self) -> int:
        """How many cells mislead."""
        return 0 if self.kind is None else int((self.kind != "not shown to mislead").sum())

    def to_frame(self) -> pd.DataFrame:
        """One row a cell: the axes, its name, the estimate, the exact value and their difference
        with intervals.
        """
        found, exact, error = self.estimate, self.exact, self.error
        maps = {"estimate": found.effect, "estimate_low": found.low, "estimate_high": found.high}
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
        frame = cells(found.axes, found.layers, **maps)
        frame.insert(0, "cell", cell_names(frame, found.names))
        return frame if self.kind is None else frame.assign(kind=self.kind.ravel())

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record: both maps, and what they say of each other as a table."""
        found = self.estimate
        said = {
            name: getattr(found, name)
            for name in ("subject", "sha256", "probe", "site", "direction", "n")
        }
        said |= {
            "metric": found.metric_name,
            "steps": self.steps,
            "softmax": self.softmax,
            "checks": found.checks,
        }
        said |= {
            "seconds_estimate": found.seconds,
            "seconds_exact": self.exact and self.exact.seconds,
        }
        return {
            **super().to_dict(),
            **said,
            "misleading": self.misleading,
            "cells": self.to_frame().to_dict("records"),
        }


def cell_names(frame: pd.DataFrame, names: list[str]) -> list[str]:
    """What each row of a map's table is called: `L3H1`, `L3 at {S2} (9)`, `L3H1 at to (13)`, `L3
    neuron 7`.
    """
    found = []
    for row in frame.to_dict("records"):
        where = f"L{row['layer']:.0f}" + (f"H{row['head']:.0f}" if "head" in row else "")
        where += f" neuron {row['neuron']:.0f}" if "neuron" in row else ""
        found.append(
            where
            + (f" at {names[int(row['pos'])].strip()} ({row['pos']:.0f})" if "pos" in row else "")
        )
    return found


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
    """Estimate a map by gradients, and hold it against the exact map: of a probe's `n` pairs, or of
    one of your own.

    Args:
        subject: The model.
        probe: A probe of the shelf, a .toml file, or one pair of your own: clean and corrupted
            prompt, answer and wrong answer, of one token each.
        n: Prompt pairs of a probe.
        steps: Inputs between the two prompts over which the gradient is averaged; 1 is plain
            attribution patching.
        softmax: Run attention exactly where queries or keys are patched, and be linear only after
            it.
        exact: Also run every patch.
        tolerance: Share of the way from the corrupted to the clean runs by which an estimate may be
            off.
        site: What is patched, one of `SITES`.
        direction: One of `DIRECTIONS`.
        metric: One of `METRICS`; None for the probe's own, and the logit difference of a pair of
            your own.
        replacement: Where the replacing activation comes from, one of `REPLACEMENTS`.
        layer: The one layer to sweep (neurons need one); None for all.
        window: Layers replaced at once; only 1 can be estimated.
        also: The other of attn_out and mlp_out, replaced together with the site: not to be
            estimated.
        noise: Standard deviations of the embedding, for the replacement of that name.
        seed: Of the pairs drawn, of noise and of the resampled text.
        anyway: Go on although the model cannot do the probe.
        progress: Called with the share done and a word about it.

    Raises `WorkbenchError` as `probe` does, and for settings that cannot be estimated.
    """
    asked, how = (
        read_probe(probe) if isinstance(probe, str) else None,
        Approximation(steps, softmax),
    )
    metric = metric or (asked.metric if asked else "logit_difference")
    settings = Settings(site, direction, metric, replacement, layer, window, also, noise, seed=seed)
    settings.check(subject)
    how.check(settings)
    if settings.ablates:
        settings = replace(settings, direction="noising")
    if asked is None:
        made = own_items(subject, probe)
    else:
        made = generate(subject, asked, n, seed)
        if not anyway:
            require(subject, asked, seed)
    guessed, run, took, checks, ran_by = [], [], [0.0, 0.0], {}, "packed"
    for i, item in enumerate(made.items):
        began = time.perf_counter()
        guessed.append(estimate_sweep(subject, item.pair, settings, how))
        took[0] += time.perf_counter() - began
        if exact:
            began = time.perf_counter()
            swept, ran_by = sweep_anyhow(subject, item.pair, settings)
            run.append(swept)
            took[1] += time.perf_counter() - began
            if not i:
                checks = run_checks(
                    subject, item.pair, settings, swept, audit=1, packed=ran_by == "packed"
                )
        if progress is not None:
            progress((i + 1) / len(made.items), f"pair {i + 1} of {len(made.items)}")
    estimate = summary(subject, made, settings, guessed, (took[0], "gradients"), checks)
    found = Attribution(estimate, None, steps, softmax, tolerance)
    if not exact:
        return found
    found = replace(found, exact=summary(subject, made, settings, run, (took[1], ran_by), checks))
    return compared(found, np.array([s.clean - s.corrupted for s in run]))


def compared(found: Attribution, gap: Float[np.ndarray, " n"]) -> Attribution:
    """The same with correlation, errors and misleading cells worked out; it needs the exact map.

    `gap` is the clean run's metric less the corrupted run's, a pair.
    """
    estimate, exact = found.estimate, found.exact
    assert exact is not None
    start = np.zeros_like(gap) if exact.direction == "denoising" else gap / gap.mean()
    start = start.reshape((-1,) + (1,) * exact.effect.ndim)
    moved = [side.samples - start for side in (estimate, exact)]
    moved = [np.where(np.abs(side) < ROUNDING, 0.0, side) for side in moved]
    error = cell_statistics(estimate.samples - exact.samples, per=gap / gap.mean())
    kind = np.full(exact.effect.shape, "not shown to mislead", dtype="<U20")
    alone = exact.n == 1  # nothing to test: both values are this pair's own
    off = (np.abs(error.mean) > found.tolerance) & (alone | (error.p < ALPHA))
    kind[off] = "off"
    apart = np.sign(moved[0].mean(0)) != np.sign(moved[1].mean(0))
    kind[(off if alone else estimate.significant & exact.significant) & apart] = "wrong sign"
    return replace(found, correlation=map_correlation(moved[0], moved[1]), error=error, kind=kind)
