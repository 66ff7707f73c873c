"""Several Subjects against one: how far the heads, layers, weights and predictions of each are from
it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.comparison.heads import head_shift
from workbench.comparison.layers import layer_shift
from workbench.comparison.matching import obstacles
from workbench.comparison.measures import measure_of
from workbench.comparison.text import text_shift
from workbench.comparison.weights import weight_shift
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.statistics import estimate_mean, paired_difference
from workbench.store import Run, Store
from workbench.subjects import Subject, load

MEASURES = {
    "kl": "KL(subject || base), nats a token",
    "loss": "loss above the base's, nats a token",
    "heads": "Jensen-Shannon distance of attention",
    "stream": "relative difference of the stream",
    "weights": "relative change of a layer's matrices",
}
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Series:
    """Subjects in order, each measured against `base`.

    `table` has a row a subject, measure and place: `subject`, `order` (its number, or the step of a
    checkpoint), `measure` (of `MEASURES`), `place` ("" for the whole model, L3H1 for a head, a
    layer's number else), `value`, `low`, `high` (95 % over `n` texts; weights are exact and have
    none).
    """

    base: str
    table: pd.DataFrame

    def grid(self, measure: str) -> tuple[np.ndarray, list[str], list[int]]:
        """One measure as `[place, subject]`, with the places and the subjects' order."""
        part: Any = self.table[self.table["measure"] == measure]
        places, order = list(dict.fromkeys(part["place"])), sorted(set(part["order"]))
        wide = part.pivot(index="place", columns="order", values="value").reindex(
            index=places, columns=order
        )
        return wide.to_numpy(float), places, order

    def summary(self) -> pd.DataFrame:
        """One row a subject: divergence and loss with their intervals, the head that moved
        farthest, the layer too.

        A measure that could not be had is NaN, a place "".
        """
        rows = []
        for subject, part in self.table.groupby("subject", sort=False):
            row: dict[str, Any] = {"subject": subject}
            for measure in ("kl", "loss"):
                found = part[part["measure"] == measure]
                for column, name in (
                    ("value", measure),
                    ("low", f"{measure}_low"),
                    ("high", f"{measure}_high"),
                ):
                    row[name] = float(found[column].iloc[0]) if len(found) else float("nan")
            for measure, word in (("heads", "head"), ("weights", "layer")):
                found = part[part["measure"] == measure].sort_values(
                    "value", ascending=False, kind="stable"
                )
                row[f"farthest_{word}"] = str(found["place"].iloc[0]) if len(found) else ""
                row[f"{word}_change"] = (
                    float(found["value"].iloc[0]) if len(found) else float("nan")
                )
            rows.append(row | {"n": int(part["n"].max())})
        return pd.DataFrame(rows)

    def half_way(self, measure: str = "heads") -> pd.DataFrame:
        """When each place had come half the way: the first subject from which on it stays at half
        its first value.

        Meant for a series that ends at its base; NaN where it was there from the beginning.
        """
        values, places, order = self.grid(measure)
        rows = []
        for place, row in zip(places, values, strict=True):
            far = np.flatnonzero(row > row[0] / 2)
            at = float("nan") if row[0] <= 0 or len(far) == len(row) else order[far[-1] + 1]
            rows.append({"place": place, "at": at, "first": row[0], "last": row[-1]})
        return pd.DataFrame(rows).sort_values("at", ignore_index=True)


@own_modes
def series(
    base: str | Subject,
    others: Sequence[str | Subject],
    *,
    order: Sequence[int] | None = None,
    texts: Sequence[str] | None = None,
    progress: Report | None = None,
) -> Series:
    """Measure each of `others` against `base`; `order` are their steps where they are checkpoints
    of a run.

    Only two models are in memory at a time. A measure that cannot be had has no rows.
    Raises `WorkbenchError` where a model cannot be loaded.
    """
    first, rows = load(base), []
    for i, other in enumerate(others):
        if progress is not None:
            progress(i / len(others), f"model {i + 1} of {len(others)}")
        subject = load(other)
        label = {
            "subject": str(other) if isinstance(other, str) else other.name,
            "order": order[i] if order else i,
        }
        rows += [label | row for row in _measured(first, subject, texts)]
    columns = ["subject", "order", "measure", "place", "value", "low", "high", "n"]
    return Series(first.name, pd.DataFrame(rows, columns=columns))


@own_modes
def checkpoint_series(
    run: str | Run,
    *,
    against: str = "last",
    texts: Sequence[str] | None = None,
    progress: Report | None = None,
) -> Series:
    """Every kept checkpoint of a run against one model: when did each head, layer and matrix
    change?

    Args:
        run: A run, or its id.
        against: `last` or `first` checkpoint, `base` (what a fine-tune began from), or what `load`
            takes.
        texts: To measure on; the defaults of each view otherwise.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: fewer than two checkpoints, or no base.
    """
    run = Store().get(run) if isinstance(run, str) else run
    steps = list(run.checkpoints)
    if len(steps) < 2:
        raise WorkbenchError(
            f"The run {run.title} has {len(steps)} checkpoints; two are needed to see a change."
        )
    if against == "base" and not run.config.get("base"):
        raise WorkbenchError(
            f"The run {run.title} began from nothing, so it has no base; compare with its first step."
        )
    ends = {
        "last": f"run:{run.id}@{steps[-1]}",
        "first": f"run:{run.id}@{steps[0]}",
        "base": run.config.get("base"),
    }
    names = [f"run:{run.id}@{step}" for step in steps]
    return series(ends.get(against) or against, names, order=steps, texts=texts, progress=progress)


@own_modes
def behaviour_series(
    run: str | Run, on: str = "", *, n: int = 24, seed: int = 0, progress: Report | None = None
) -> pd.DataFrame:
    """When did the behaviour change: a measure of every kept checkpoint, of a fine-tune after its
    base (step 0).

    Args:
        run: A run, or its id.
        on: What `measure_of` takes; a fine-tune's own held-out examples where nothing is said.
        n: Samples, the same at every step.
        seed: Of the samples and the bootstrap.
        progress: Called with (share done, message).

    Returns a row a step and metric: `value` with `low` and `high` (95 % over samples), and
        `difference` from the first
    row with its paired interval (`d_low`, `d_high`), p of none (`d_p`), and `n`.
    Raises `WorkbenchError` for fewer than two models, and what `measure_of` raises.
    """
    run = Store().get(run) if isinstance(run, str) else run
    models = {0: str(run.config["base"])} if run.config.get("base") else {}
    models |= {step: f"run:{run.id}@{step}" for step in run.checkpoints}
    if len(models) < 2:
        raise WorkbenchError(
            f"The run {run.title} has kept {len(models)} checkpoints; two are needed to see a change."
        )
    measure, first, rows = None, None, []
    for i, (step, name) in enumerate(models.items()):
        if progress is not None:
            progress(i / len(models), f"step {step:,}")
        subject = load(name)
        measure = measure or measure_of(subject, on or f"run:{run.id}", n=n, seed=seed)
        values = measure.of(subject)
        first = values if first is None else first
        for metric, before, now in zip(measure.metrics, first, values, strict=True):
            own, change = estimate_mean(now), paired_difference(before, now, seed=seed)
            rows.append(
                {
                    **{
                        "step": step,
                        "metric": metric,
                        "value": own.value,
                        "low": own.low,
                        "high": own.high,
                    },
                    **{
                        "difference": change.difference,
                        "d_low": change.low,
                        "d_high": change.high,
                        "d_p": change.p,
                    },
                    "n": own.n,
                }
            )
    return pd.DataFrame(rows)


def _measured(base: Subject, subject: Subject, texts: Sequence[str] | None) -> list[dict[str, Any]]:
    missing, rows = obstacles(base, subject), []
    if "text" not in missing:
        whole = text_shift(base, subject, texts).summary().set_index("measure")
        for measure, source in (("kl", "kl"), ("loss", "difference")):
            rows.append(
                {
                    "measure": measure,
                    "place": "",
                    **whole.loc[source, ["value", "low", "high", "n"]].to_dict(),
                }
            )
    if "heads" not in missing:
        frame = (
            head_shift(base, subject, texts)
            .to_frame()
            .sort_values("name", key=lambda c: c.map(_place))
        )
        named = frame.rename(columns={"name": "place", "distance": "value"})
        rows += [{"measure": "heads", **row} for row in named.to_dict("records")]
    if "layers" not in missing:
        found = layer_shift(base, subject, texts).to_frame()
        part = found[found["measure"] == "difference"]
        rows += [
            {
                "measure": "stream",
                "place": str(r["stage"]),
                **{k: r[k] for k in ("value", "low", "high", "n")},
            }
            for r in part.to_dict("records")
        ]
    if "weights" not in missing:
        rows += _by_layer(weight_shift(base, subject, ranks=False).table)
    return rows


def _by_layer(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The relative Frobenius change of all that a layer holds, from the norms of its parts."""
    squares = pd.DataFrame(
        {"layer": table["layer"], "update": table["norm"] ** 2, "size": table["size"] ** 2}
    )
    whole: Any = squares.groupby("layer").sum()
    exact = {"low": float("nan"), "high": float("nan"), "n": 0}
    return [
        {
            "measure": "weights",
            "place": str(layer) if int(str(layer)) >= 0 else "outside",
            "value": value,
            **exact,
        }
        for layer, value in np.sqrt(whole["update"] / whole["size"]).items()
    ]


def _place(name: str) -> tuple[int, int]:
    layer, head = name[1:].split("H")
    return int(layer), int(head)
