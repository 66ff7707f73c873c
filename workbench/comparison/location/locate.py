"""Where does a fine-tuning gain live? Parts of one model are put into the other, and the behaviour
is measured again.

A part's share is what of the gain comes along when it is brought into the base, and what goes when
it is put back in the tuned model. The two need not agree, nor do shares add up to 1: parts work
together, and some do the same work.
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


@dataclass(frozen=True)
class Located(Record):
    """A study of where the difference of two models lives, over `n` samples of one measure.

    - `measure`: what was asked, `data`: the sha256 of its token ids; `metrics`: names of
      `comparison.measures.METRICS`, the headline first
    - `ends`: the two models' own values, `[metric, n]` each; `experiments` with their `values`, in
        the same shape
    - `checks`: greatest differences that have to be 0: nothing exchanged against the model itself,
      everything against the other one, and a hybrid computed from its first layer against the short
      cut
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
        """What was found, in a few words."""
        gain = self.gain()
        words = (
            f"{METRICS[self.metrics[0]]} {gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        )
        return f"{self.measure}, tuned less base {words}; {len(self.values)} experiments in {self.grain}"

    def gain(self, metric: str = "") -> Difference:
        """Tuned less base, with the paired 95 % interval."""
        i = self._at(metric)
        return paired_difference(self.ends["base"][i], self.ends["tuned"][i], seed=self.seed)

    def undefined(self, metric: str = "") -> str:
        """Why no share can be given, in a sentence; empty where shares mean something."""
        gain, name = self.gain(metric), metric or self.metrics[0]
        if not (gain.low > 0 or gain.high < 0):
            return (
                f"{self.tuned} and {self.base} do not differ in {METRICS[name]} ({gain.difference:+.3f} "
                f"{bracketed(gain.low, gain.high, '+.3f')}, n = {gain.n}), so there is no gain to have a share of; "
                "choose another measure or more samples."
            )
        return ""

    def table(self, metric: str = "") -> pd.DataFrame:
        """One row an experiment (random subsets: one a size): its value, and its share of the gain
        with interval.

        `share` is what comes along into the base, or what goes from the tuned model; `p` is that of
        no change, corrected over the rows of one direction. `random` is the share of random heads
        and neurons with as many parameters, `p_random` the p that the part carries as much as they
        do. An undefined gain gives NaN shares.
        """
        i = self._at(metric)
        rows = []
        for into in SIDES:
            groups: dict[tuple[str, str], list[int]] = {}
            for k, e in enumerate(self.experiments[: len(self.values)]):
                if e.into == into:
                    groups.setdefault((e.kind, e.name), []).append(k)
            if not groups:
                continue
            values = np.stack(
                [np.mean([self.values[k][i] for k in which], axis=0) for which in groups.values()]
            )
            ends = self.ends[into][i], self.ends[other(into)][i]
            shares = gain_shares(values, *ends, seed=self.seed)
            names = list(groups)
            drawn = [
                names.index(("random", kind)) if ("random", kind) in groups else j
                for j, (kind, _) in enumerate(names)
            ]
            excess = gain_shares(values - values[drawn] + ends[0], *ends, seed=self.seed)
            for j, ((kind, name), which) in enumerate(groups.items()):
                e = self.experiments[which[0]]
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
                        "random": np.nan if drawn[j] == j else shares.mean[drawn[j]],
                        "p_random": np.nan if drawn[j] == j else excess.p[j],
                        "n": self.n,
                    }
                )
        names = "kind name into layer index alpha n_params draws value share low high p random p_random n".split()
        return pd.DataFrame(rows, columns=pd.Index(names))

    def to_frame(self) -> pd.DataFrame:
        """The table of the headline metric."""
        return self.table()

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the token ids that were asked for."""
        return {self.measure: self.data}

    def best(self, kind: str = "layer", into: str = "base", metric: str = "") -> pd.DataFrame:
        """The rows of one kind and direction, the greatest share first."""
        found = self.table(metric)
        return found[(found["kind"] == kind) & (found["into"] == into)].sort_values(
            "share", ascending=False, ignore_index=True
        )

    def path(self, metric: str = "") -> pd.DataFrame:
        """The metric itself along the line from base to tuned: alpha, value with its 95 % interval,
        n.
        """
        i = self._at(metric)
        pairs = zip(self.experiments, self.values, strict=False)
        found = [(e.alpha, estimate_mean(value[i])) for e, value in pairs if e.kind == "path"]
        rows = [
            {"alpha": alpha, "value": e.value, "low": e.low, "high": e.high, "n": e.n}
            for alpha, e in found
        ]
        return pd.DataFrame(rows, columns=pd.Index(["alpha", "value", "low", "high", "n"]))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record: every experiment, and a table for every metric."""
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
    """Put parts of one model into the other, both ways, and measure what of the behavioural
    difference comes along.

    Args:
        base: The model before.
        tuned: The model after: the same shape and tokenizer.
        on: The behaviour: a benchmark task such as "clinc150", "probe:NAME", "text", or a `Measure`
            of your own.
        n: Samples.
        grain: One of `GRAINS`: how fine the parts are.
        draws: Random subsets of each size, the baseline.
        seed: Of the samples, the random subsets and the bootstrap.
        progress: Called with the share done and a word about it.
        partial: Called with the result so far every few seconds.

    Raises `WorkbenchError` for models that do not fit each other, and for a measure that cannot be
    had.
    """
    if grain not in GRAINS:
        raise WorkbenchError(f"The grain is {grain!r}; choose one of {', '.join(GRAINS)}.")
    if draws < 1:
        raise WorkbenchError(
            f"draws is {draws}; the baseline needs at least 1 random subset of each size."
        )
    began = time.perf_counter()
    first, second = load(base), load(tuned)
    measure = on if isinstance(on, Measure) else measure_of(first, on, n=n, seed=seed)
    hybrids = Hybrids(first, second, measure)
    todo = plan(hybrids.parts, grain=grain, draws=draws, seed=seed)
    checks, values = _checks(hybrids), []
    slices = {name: hybrids.parts.slices(name) for name in {part for e in todo for part in e.parts}}
    cost = [hybrids.cost([s for part in e.parts for s in slices[part]], e.into) for e in todo]

    def so_far(finished: bool) -> Located:
        return _result(
            hybrids, (first, second), (grain, draws, seed), todo, values, checks, began, finished
        )

    shown = time.monotonic()
    for i, e in enumerate(todo):
        if progress is not None:
            progress(
                sum(cost[:i]) / max(sum(cost), 1e-9),
                f"{e.kind.replace('_', ' ')} {e.name} into {e.into}",
            )
        values.append(
            hybrids.score([s for part in e.parts for s in slices[part]], e.into, alpha=e.alpha)
        )
        if partial is not None and time.monotonic() - shown > SEEN_EVERY:
            partial(so_far(False))
            shown = time.monotonic()
    if progress is not None:
        progress(1.0, "done")
    return so_far(True)


def _checks(hybrids: Hybrids) -> dict[str, float]:
    """What has to hold exactly, measured on every layer of the model."""
    parts = hybrids.parts
    every = [piece for name in parts.all for piece in parts.slices(name)]
    found = {}
    for into in SIDES:
        same, moved = hybrids.score([], into, whole=True), hybrids.score(every, into, whole=True)
        found[f"nothing into {into}"] = float(np.abs(same - hybrids.ends[into]).max())
        found[f"everything into {into}"] = float(np.abs(moved - hybrids.ends[other(into)]).max())
    middle = parts.slices(parts.layers[len(parts.layers) // 2])
    long, short = (hybrids.score(middle, "base", whole=whole) for whole in (True, False))
    found["layers left out"] = float(np.abs(long - short).max())
    return found


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
    measure: Measure = hybrids.measure
    base, tuned = subjects
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
        seed=settings[2],
        grain=settings[0],
        draws=settings[1],
        n_layers=len(hybrids.parts.layers),
        n_params=sum(p.numel() for p in hybrids.weights["base"].values()),
        n_changed=hybrids.n_changed,
        ends=hybrids.ends,
        experiments=todo,
        values=list(values),
        checks=checks,
        seconds=time.perf_counter() - began,
        finished=finished,
        notes=[news] if (news := whats_new(base, tuned)) else [],
    )
