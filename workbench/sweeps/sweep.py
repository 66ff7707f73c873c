"""Starting a sweep, going on with one, and its table."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.store import Run, Store
from workbench.store.followers import follower
from workbench.sweeps.plan import Plan
from workbench.sweeps.slurm import Resources
from workbench.sweeps.submit import check_place, joined, submit, wait
from workbench.sweeps.work import work

if TYPE_CHECKING:
    import pandas as pd

KIND = "sweep"


@dataclass(frozen=True)
class Sweep(Record):
    """A sweep and what its cells came to so far.

    - `run`: id of the sweep's run
    - `rows`: one for each cell, and for each score of an evaluation: its settings, run, status,
      what was measured with its 95 % interval, and why it failed
    """

    run: str
    title: str
    rows: list[dict[str, Any]]

    def headline(self) -> str:
        """How many cells have ended how."""
        by_cell = {row["run"]: row["status"] for row in self.rows}
        counts = Counter(by_cell.values())
        return f"{self.run}: " + ", ".join(f"{n} {status}" for status, n in counts.items())

    def to_frame(self) -> "pd.DataFrame":
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows)


@public()
def sweep(
    plan: "str | Path | Plan",
    *,
    on: str = "here",
    workers: int = 1,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Carry out a plan: every cell is a run of its own in the store, whoever works on it.

    Args:
        plan: A TOML file, or a `Plan`.
        on: Where cells are worked on: here (this process), local (processes beside it), slurm (a
            cluster), or torchrun (every process that torchrun has started calls this).
        workers: Processes on local and slurm.
        resources: What each worker is given on slurm, and how long it may take.
        progress: Called with the share of cells that have ended, and a few words.

    Returns:
        The sweep with the results of all cells.

    Raises:
        WorkbenchError: For a plan that cannot be carried out, before anything is recorded; and
            where all workers are gone before the last cell.
    """
    check_place(on, workers)
    store = Store()
    run = begin_or_join(plan, store, on)
    return carry_out(run, store, on=on, workers=workers, resources=resources, progress=progress)


def begin_or_join(plan: "str | Path | Plan", store: Store, on: str) -> Run:
    """A new run of the sweep; under torchrun, the one that the first process records."""
    if on == "torchrun" and follower():
        return joined(store)
    return begin(plan if isinstance(plan, Plan) else Plan.read(plan), store)


def begin(plan: Plan, store: Store) -> Run:
    """A new run of the sweep with a queued run for each cell; all are checked first."""
    cells = plan.cells()
    tags = [os.environ["TORCHELASTIC_RUN_ID"]] if "TORCHELASTIC_RUN_ID" in os.environ else []
    run = store.create(KIND, plan.title, plan.to_dict())
    for cell in cells:
        store.create(cell.kind, cell.title, cell.config, parent=run.id)
    if tags:  # only now, when all cells are there: the other processes wait for it
        store.tag(run.id, tags)
    return store.get(run.id)


def go_on(sweep_id: str, store: Store) -> Run:
    """The run of a sweep that was cut short; its failed and cancelled cells are queued again.

    Raises:
        WorkbenchError: There is no such sweep.
    """
    run = store.get(sweep_id)
    if run.kind != KIND:
        raise WorkbenchError(f"run {run.id} is of the kind {run.kind}, and no sweep")
    for cell in store.children(run.id):
        if cell.status in ("failed", "cancelled"):
            store.reopen(cell.id)
    return store.get(run.id) if run.status in ("queued", "running") else _reopened(run, store)


def _reopened(run: Run, store: Store) -> Run:
    waiting = any(cell.status != "done" for cell in store.children(run.id))
    return store.reopen(run.id) if waiting and run.status != "done" else store.get(run.id)


def carry_out(
    run: Run,
    store: Store,
    *,
    on: str = "here",
    workers: int = 1,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Work on all cells that have not ended, and return the sweep; arguments as for `sweep`."""
    if on in ("local", "slurm"):
        jobs = submit(run.id, store, on, workers, resources or Resources())
        wait(run.id, store, jobs, progress)
    else:
        work(run.id, store)
    return result_of(run.id, store)


def result_of(sweep_id: str, store: Store) -> Sweep:
    """A sweep with the results of the cells that have ended."""
    run = store.get(sweep_id)
    plan = Plan.from_dict(run.config)
    cells = store.children(run.id)
    rows: list[dict[str, Any]] = []
    for cell in cells:
        facts = {**_settings(plan, cell), "run": cell.id, "status": cell.status}
        scores = _scores(cell) or [{}]
        rows += [{**facts, **score, "reason": cell.error or ""} for score in scores]
    return Sweep(run.id, run.title, rows)


def _settings(plan: Plan, cell: Run) -> dict[str, Any]:
    """What sets a cell apart, read from its run's settings."""
    if plan.models:
        return {"model": cell.config["models"][0], "suite": cell.config["suite"]}
    values: dict[str, Any] = {}
    for name in plan.vary:
        table, dot, key = name.partition(".")
        values[name] = (cell.config.get(table) or {}).get(key) if dot else cell.config.get(table)
    return values


def _scores(cell: Run) -> list[dict[str, Any]]:
    """What a finished cell measured, one row a number; [] while there is nothing."""
    result = cell.result or {}
    if cell.kind == "eval":
        columns = ("task", "metric", "value", "low", "high", "n")
        by_model = result.get("models", {}).values()
        return [{key: row.get(key) for key in columns} for one in by_model for row in one["rows"]]
    rows = [
        {
            "metric": f"{change['metric']}, change",
            "value": change["difference"],
            "low": change["low"],
            "high": change["high"],
            "n": change["n"],
        }
        for change in result.get("changes", ())
    ]
    if "validation_loss" in result:
        rows.append({"metric": "validation loss", "value": result["validation_loss"]})
    return rows
