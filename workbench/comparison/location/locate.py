"""Where is a fine-tuning gain? Puts parts of one model into the other and measures behaviour again.

A part's share is the part of the gain that it brings when it is put into the base, and the part
that is lost when the base's is put into the tuned model. The two need not agree, nor do shares add
up to 1, because parts work together, and some are redundant.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.comparison.location.experiments import GRAINS, Experiment, plan
from workbench.comparison.location.hybrids import SIDES, Hybrids, Values, other
from workbench.comparison.matching import whats_new
from workbench.comparison.measures import METRICS, Measure, measure_of
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Difference, estimate_mean, gain_shares, paired_difference
from workbench.statistics.words import bracketed
from workbench.subjects import Subject, SubjectOrName, load

Progress = Callable[[float, str], None]
SEEN_EVERY = 5.0
"""Seconds between partial results."""
COLUMNS = (
    *("kind", "name", "into", "layer", "index", "alpha", "n_params", "draws"),
    *("value", "share", "low", "high", "p", "random", "p_random", "n"),
)
"""Columns of `Located.table`."""


@dataclass(frozen=True)
class Located(Record):
    """A study of where the difference between two models is, on one measure of behaviour.

    Attributes:
        base: Name of the model before.
        tuned: Name of the model after.
        base_sha256: Hash of its weights.
        tuned_sha256: Hash of its weights.
        measure: Name of the measure.
        title: Of the measure.
        data: sha256 of its token ids.
        metrics: Keys of `comparison.measures.METRICS`, the headline metric first.
        n: Samples.
        seed: Of the samples, the random subsets and the bootstrap.
        grain: Size of the parts.
        draws: Random subsets of each size.
        n_layers: Of the models.
        n_params: Of the models.
        n_changed: Parameters that are not equal.
        ends: The models' own values, by "base" and "tuned".
        experiments: The hybrids.
        values: Of the hybrids, as far as they have been scored.
        checks: Largest differences that have to be 0: nothing exchanged against the model itself,
            everything exchanged against the other one, and a hybrid computed from its first layer
            against the shortcut.
        seconds: Time taken.
        finished: Whether all experiments have been scored.
        notes: Remarks, such as on tokens that only one model has.
    """

    base: str
    tuned: str
    base_sha256: str
    tuned_sha256: str
    measure: str
    title: str
    data: str
    metrics: tuple[str, ...]
    n: int
    seed: int
    grain: str
    draws: int
    n_layers: int
    n_params: int
    n_changed: int
    ends: dict[str, Values]
    experiments: list[Experiment]
    values: list[Values]
    checks: dict[str, float]
    seconds: float
    finished: bool = True
    notes: list[str] = field(default_factory=list)

    def headline(self) -> str:
        """The gain and the number of experiments, in one line."""
        gain = self.gain()
        words = (
            f"{METRICS[self.metrics[0]]} {gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        )
        experiments = f"{len(self.values)} experiments in {self.grain}"
        return f"{self.measure}, tuned minus base {words}; {experiments}"

    def gain(self, metric: str = "") -> Difference:
        """Tuned minus base, with the paired 95 % interval."""
        i = self._at(metric)
        return paired_difference(self.ends["base"][i], self.ends["tuned"][i], seed=self.seed)

    def undefined(self, metric: str = "") -> str:
        """Why shares are undefined, in one sentence; empty if they are defined."""
        gain = self.gain(metric)
        name = metric or self.metrics[0]
        if not (gain.low > 0 or gain.high < 0):
            interval = bracketed(gain.low, gain.high, "+.3f")
            return (
                f"{self.tuned} and {self.base} do not differ in {METRICS[name]} "
                f"({gain.difference:+.3f} {interval}, n = {gain.n}), so there is no gain to have "
                "a share of; choose another measure or more samples."
            )
        return ""

    def table(self, metric: str = "") -> pd.DataFrame:
        """One row an experiment (random subsets: one a size): its value and share of the gain.

        Args:
            metric: One of `metrics`; the headline metric by default.

        Returns:
            Columns `COLUMNS`. `share` is the share of the gain that is added to the base, or lost
            from the tuned model, with `low` and `high`; `p` is that of no change, corrected over
            the rows of one direction. `random` is the share of random heads and neurons with as
            many parameters, `p_random` the p that the part carries no more than they do. Shares
            are NaN if the gain is undefined.
        """
        rows = [row for into in SIDES for row in self._rows(into, self._at(metric))]
        return pd.DataFrame(rows, columns=pd.Index(COLUMNS))

    def _rows(self, into: str, metric: int) -> list[dict[str, Any]]:
        """The table's rows of one direction."""
        groups: dict[tuple[str, str], list[int]] = {}  # random subsets of a size are one row
        for k, e in enumerate(self.experiments[: len(self.values)]):
            if e.into == into:
                groups.setdefault((e.kind, e.name), []).append(k)
        if not groups:
            return []
        values = np.stack(
            [np.mean([self.values[k][metric] for k in which], axis=0) for which in groups.values()]
        )  # [row, sample]
        host = self.ends[into][metric]
        donor = self.ends[other(into)][metric]
        shares = gain_shares(values, host, donor, seed=self.seed)
        names = list(groups)
        # For each row, the row of random subsets of the same size; itself where there is none.
        baseline = [
            names.index(("random", kind)) if ("random", kind) in groups else j
            for j, (kind, _) in enumerate(names)
        ]
        excess = gain_shares(values - values[baseline] + host, host, donor, seed=self.seed)
        rows = []
        for j, ((kind, name), which) in enumerate(groups.items()):
            e = self.experiments[which[0]]
            has_baseline = baseline[j] != j
            rows.append(
                {
                    "kind": kind,
                    "name": name,
                    "into": into,
                    "layer": e.layer,
                    "index": e.index,
                    "alpha": e.alpha,
                    "n_params": int(np.mean([self.experiments[k].n_params for k in which])),
                    "draws": len(which),
                    "value": values[j].mean(),
                    "share": shares.mean[j],
                    "low": shares.low[j],
                    "high": shares.high[j],
                    "p": shares.p[j],
                    "random": shares.mean[baseline[j]] if has_baseline else np.nan,
                    "p_random": excess.p[j] if has_baseline else np.nan,
                    "n": self.n,
                }
            )
        return rows

    def to_frame(self) -> pd.DataFrame:
        """The table of the headline metric."""
        return self.table()

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the measure's token ids."""
        return {self.measure: self.data}

    def best(self, kind: str = "layer", into: str = "base", metric: str = "") -> pd.DataFrame:
        """The rows of one kind and direction, the largest share first.

        Args:
            kind: A key of `experiments.KINDS`.
            into: The model that was changed, "base" or "tuned".
            metric: One of `metrics`; the headline metric by default.
        """
        table = self.table(metric)
        rows = table.loc[(table["kind"] == kind) & (table["into"] == into)]
        return rows.sort_values("share", ascending=False, ignore_index=True)

    def path(self, metric: str = "") -> pd.DataFrame:
        """The metric along the line from base to tuned: alpha, value, low, high (95 %), n."""
        i = self._at(metric)
        rows = []
        for experiment, value in zip(self.experiments, self.values, strict=False):
            if experiment.kind == "path":
                e = estimate_mean(value[i])
                rows.append(
                    {
                        "alpha": experiment.alpha,
                        "value": e.value,
                        "low": e.low,
                        "high": e.high,
                        "n": e.n,
                    }
                )
        return pd.DataFrame(rows, columns=pd.Index(["alpha", "value", "low", "high", "n"]))

    def to_dict(self) -> dict[str, Any]:
        """Every experiment, and a table for every metric, ready for JSON."""
        return {
            **super().to_dict(),
            "gain": {m: vars(self.gain(m)) for m in self.metrics},
            "undefined": {m: self.undefined(m) for m in self.metrics},
            "table": {m: self.table(m).to_dict("records") for m in self.metrics},
        }

    def _at(self, metric: str) -> int:
        name = metric or self.metrics[0]
        if name not in self.metrics:
            raise WorkbenchError(
                f"{self.measure} has no metric {name!r}; it has {', '.join(self.metrics)}."
            )
        return self.metrics.index(name)


@public("base", "tuned", loads=True)
@own_modes
def locate(
    base: SubjectOrName,
    tuned: SubjectOrName,
    on: str | Measure,
    *,
    n: int = 24,
    grain: str = "blocks",
    draws: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
    partial: Callable[[Located], None] | None = None,
) -> Located:
    """Share of the behavioural difference that each part carries, exchanged both ways.

    Args:
        base: The model before.
        tuned: The model after, with the same shape and tokenizer.
        on: The behaviour: a benchmark task such as "clinc150", "probe:NAME", "text", or a `Measure`
            of your own.
        n: Samples.
        grain: Size of the parts, one of `GRAINS`.
        draws: Random subsets of each size, the baseline.
        seed: Of the samples, the random subsets and the bootstrap.
        progress: Called with the share done and a few words about it.
        partial: Called with the result so far every few seconds.

    Raises:
        WorkbenchError: the models do not match, or there is no such measure.
    """
    if grain not in GRAINS:
        raise WorkbenchError(f"The grain is {grain!r}; choose one of {', '.join(GRAINS)}.")
    if draws < 1:
        raise WorkbenchError(
            f"draws is {draws}; the baseline needs at least 1 random subset of each size."
        )
    began = time.perf_counter()
    first = load(base)
    second = load(tuned)
    measure = on if isinstance(on, Measure) else measure_of(first, on, n=n, seed=seed)
    hybrids = Hybrids(first, second, measure)
    todo = plan(hybrids.parts, grain=grain, draws=draws, seed=seed)
    checks = _checks(hybrids)
    values: list[Values] = []
    slices_of = {
        name: hybrids.parts.slices(name) for name in {part for e in todo for part in e.parts}
    }
    slices = [[piece for part in e.parts for piece in slices_of[part]] for e in todo]
    cost = [hybrids.cost(pieces, e.into) for pieces, e in zip(slices, todo, strict=True)]

    def so_far(finished: bool) -> Located:
        return _result(
            hybrids, (first, second), (grain, draws, seed), todo, values, checks, began, finished
        )

    shown = time.monotonic()
    for i, e in enumerate(todo):
        if progress is not None:
            words = f"{e.kind.replace('_', ' ')} {e.name} into {e.into}"
            progress(sum(cost[:i]) / max(sum(cost), 1e-9), words)
        values.append(hybrids.score(slices[i], e.into, alpha=e.alpha))
        if partial is not None and time.monotonic() - shown > SEEN_EVERY:
            partial(so_far(False))
            shown = time.monotonic()
    if progress is not None:
        progress(1.0, "done")
    return so_far(True)


def _checks(hybrids: Hybrids) -> dict[str, float]:
    """Largest differences that have to be 0, with every layer computed."""
    parts = hybrids.parts
    every = [piece for name in parts.all for piece in parts.slices(name)]
    checks = {}
    for into in SIDES:
        same = hybrids.score([], into, whole=True)
        checks[f"nothing into {into}"] = float(np.abs(same - hybrids.ends[into]).max())
        swapped = hybrids.score(every, into, whole=True)
        checks[f"everything into {into}"] = float(np.abs(swapped - hybrids.ends[other(into)]).max())
    middle = parts.slices(parts.layers[len(parts.layers) // 2])
    whole = hybrids.score(middle, "base", whole=True)
    shortcut = hybrids.score(middle, "base", whole=False)
    checks["layers left out"] = float(np.abs(whole - shortcut).max())
    return checks


def _result(
    hybrids: Hybrids,
    subjects: tuple[Subject, Subject],
    settings: tuple[str, int, int],
    todo: list[Experiment],
    values: list[Values],
    checks: dict[str, float],
    began: float,
    finished: bool,
) -> Located:
    """The record of the experiments scored so far."""
    measure = hybrids.measure
    base, tuned = subjects
    grain, draws, seed = settings
    news = whats_new(base, tuned)
    return Located(
        base=base.name,
        tuned=tuned.name,
        base_sha256=base.hash,
        tuned_sha256=tuned.hash,
        measure=measure.name,
        title=measure.title,
        data=measure.digest,
        metrics=measure.metrics,
        n=len(measure.samples),
        seed=seed,
        grain=grain,
        draws=draws,
        n_layers=len(hybrids.parts.layers),
        n_params=sum(p.numel() for p in hybrids.weights["base"].values()),
        n_changed=hybrids.n_changed,
        ends=hybrids.ends,
        experiments=todo,
        values=list(values),
        checks=checks,
        seconds=time.perf_counter() - began,
        finished=finished,
        notes=[news] if news else [],
    )
