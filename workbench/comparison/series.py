"""Several Subjects against one: the distance of each one's predictions, heads, layers, weights."""

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

    Attributes:
        base: Name of the model.
        table: One row a subject, measure and place. Columns: `subject`, `order` (its number, or
            the step of a checkpoint), `measure` (a key of `MEASURES`), `place` ("" for the whole
            model, "L3H1" for a head, else the number of a layer), `value`, `low` and `high` (95 %
            interval over `n` texts; changes of weights have none).
    """

    base: str
    table: pd.DataFrame

    def grid(self, measure: str) -> tuple[np.ndarray, list[str], list[int]]:
        """(values `[place, subject]`, places, orders of the subjects) of one measure."""
        part = self.table.loc[self.table["measure"] == measure]
        places = list(dict.fromkeys(part["place"]))
        order = sorted(set(part["order"]))
        wide = part.pivot(index="place", columns="order", values="value").reindex(
            index=places, columns=order
        )
        return wide.to_numpy(float), places, order

    def summary(self) -> pd.DataFrame:
        """One row a subject: divergence and loss, and the head and layer that changed most.

        What could not be measured is NaN, or "" for a place.
        """
        rows = []
        for subject, part in self.table.groupby("subject", sort=False):
            row: dict[str, Any] = {"subject": subject}
            for measure in ("kl", "loss"):
                whole = part.loc[part["measure"] == measure]
                for column, name in (
                    ("value", measure),
                    ("low", f"{measure}_low"),
                    ("high", f"{measure}_high"),
                ):
                    row[name] = float(whole[column].iloc[0]) if len(whole) else float("nan")
            for measure, word in (("heads", "head"), ("weights", "layer")):
                places = part.loc[part["measure"] == measure]
                places = places.sort_values("value", ascending=False, kind="stable")
                first = places.iloc[0] if len(places) else {"place": "", "value": float("nan")}
                row[f"farthest_{word}"] = str(first["place"])
                row[f"{word}_change"] = float(first["value"])
            rows.append(row | {"n": int(part["n"].to_numpy().max())})
        return pd.DataFrame(rows)

    def half_way(self, measure: str = "heads") -> pd.DataFrame:
        """For each place, the subject from which on its value stays at most half of its first one.

        Meant for a series that ends at its base. `at` is NaN if the value never was above half.
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
    """Measure each of several models against one; only two are in memory at a time.

    Args:
        base: The model to compare with.
        others: The models.
        order: The steps of checkpoints; by default the models are numbered.
        texts: To measure on; each measure's own by default.
        progress: Called with (share done, message).

    Returns:
        A measure that is not possible for a model has no rows.

    Raises:
        WorkbenchError: a model cannot be loaded.
    """
    first = load(base)
    rows = []
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
    """Every kept checkpoint of a run against one model: when did each head and layer change?

    Args:
        run: A run, or its id.
        against: "last" or "first" checkpoint, "base" (where a fine-tune started), or any name that
            `load` accepts.
        texts: To measure on; each measure's own by default.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the run has fewer than two checkpoints, or no base.
    """
    run = Store().get(run) if isinstance(run, str) else run
    steps = list(run.checkpoints)
    if len(steps) < 2:
        raise WorkbenchError(
            f"The run {run.title} has {len(steps)} checkpoints; two are needed to see a change."
        )
    if against == "base" and not run.config.get("base"):
        raise WorkbenchError(
            f"The run {run.title} began from nothing, so it has no base; "
            "compare with its first step."
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
    """A measure of behaviour at every kept checkpoint; of a fine-tune, its base is step 0.

    Args:
        run: A run, or its id.
        on: A name that `measure_of` accepts; by default a fine-tune's own held-out examples.
        n: Samples, the same at every step.
        seed: Of the samples and the bootstrap.
        progress: Called with (share done, message).

    Returns:
        One row a step and metric: `value` with `low` and `high` (95 % interval over samples),
        `difference` from the first step with its paired interval (`d_low`, `d_high`) and the p of
        no difference (`d_p`), and `n`.

    Raises:
        WorkbenchError: fewer than two models, or what `measure_of` raises.
    """
    run = Store().get(run) if isinstance(run, str) else run
    models = {0: str(run.config["base"])} if run.config.get("base") else {}
    models |= {step: f"run:{run.id}@{step}" for step in run.checkpoints}
    if len(models) < 2:
        raise WorkbenchError(
            f"The run {run.title} has kept {len(models)} checkpoints; "
            "two are needed to see a change."
        )
    measure = None
    first = None
    rows = []
    for i, (step, name) in enumerate(models.items()):
        if progress is not None:
            progress(i / len(models), f"step {step:,}")
        subject = load(name)
        measure = measure or measure_of(subject, on or f"run:{run.id}", n=n, seed=seed)
        values = measure.of(subject)
        first = values if first is None else first
        for metric, before, now in zip(measure.metrics, first, values, strict=True):
            own = estimate_mean(now)
            change = paired_difference(before, now, seed=seed)
            rows.append(
                {
                    "step": step,
                    "metric": metric,
                    "value": own.value,
                    "low": own.low,
                    "high": own.high,
                    "difference": change.difference,
                    "d_low": change.low,
                    "d_high": change.high,
                    "d_p": change.p,
                    "n": own.n,
                }
            )
    return pd.DataFrame(rows)


def _measured(base: Subject, subject: Subject, texts: Sequence[str] | None) -> list[dict[str, Any]]:
    """The rows of a series for one subject."""
    missing = obstacles(base, subject)
    rows = []
    numbers = ["value", "low", "high", "n"]
    if "text" not in missing:
        whole = text_shift(base, subject, texts).summary().set_index("measure")
        for measure, source in (("kl", "kl"), ("loss", "difference")):
            values = whole.loc[source, numbers].to_dict()
            rows.append({"measure": measure, "place": "", **values})
    if "heads" not in missing:
        heads = head_shift(base, subject, texts).to_frame()
        heads = heads.sort_values("name", key=lambda names: names.map(_place))
        heads = heads.rename(columns={"name": "place", "distance": "value"})
        rows += [{"measure": "heads", **row} for row in heads.to_dict("records")]
    if "layers" not in missing:
        layers = layer_shift(base, subject, texts).to_frame()
        layers = layers.loc[layers["measure"] == "difference"]
        for row in layers.to_dict("records"):
            values = {name: row[name] for name in numbers}
            rows.append({"measure": "stream", "place": str(row["stage"]), **values})
    if "weights" not in missing:
        rows += _by_layer(weight_shift(base, subject, ranks=False).table)
    return rows


def _by_layer(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with the relative Frobenius change of each layer, from the norms of its matrices."""
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
    """(layer, head) of a head's name."""
    layer, head = name[1:].split("H")
    return int(layer), int(head)
