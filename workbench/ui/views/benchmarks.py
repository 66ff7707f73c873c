"""Evaluation runs on a page: what a suite needs, the results a run has so far, and what they say in
words.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from workbench.benchmarks import Results, Suite, compare_results
from workbench.benchmarks.documents.sources import MADE, SOURCES
from workbench.benchmarks.tasks import PROMPTS
from workbench.paths import data_folder
from workbench.statistics import minimal_detectable_difference, too_few
from workbench.store import Run, jobs
from workbench.subjects import resolve
from workbench.ui.parts import runs as ui
from workbench.ui.parts.registered import registered
from workbench.ui.parts.words import p_text, short_names, signed, value_text

PAIR = ("shelf-base", "shelf-tuned")
"""The bundled models that there is always something to compare in."""


VARIANTS = ("shots=2", *(f"prompt={name}" for name in PROMPTS))
"""How tasks are also asked where the page is to show how far scores depend on that."""


def start(
    models: Sequence[str],
    suite: str,
    limit: int | None,
    *,
    seed: int = 0,
    shots: int | None = None,
    variants: Sequence[str] = (),
) -> Run:
    """Evaluate models on a suite in the background; a run's name is pinned to the checkpoint it has
    now.
    """
    registered(suite, "suite")
    exact = [resolve(name) for name in models]
    config: dict[str, Any] = {
        "models": exact,
        "suite": suite,
        "limit": limit,
        "seed": seed,
        "num_fewshot": shots,
    }
    config["variants"] = list(variants)
    return jobs.start(
        "eval", f"{suite}: {', '.join(short_names(exact).values())}", config, store=ui.store()
    )


def go_on(run: Run) -> Run:
    """Take up an evaluation that was cut short; what it has scored is not scored again."""
    return jobs.launch(ui.store().reopen(run.id), ui.store())


def stored() -> list[tuple[str, Results]]:
    """Every stored evaluation of one model as (run, results), newest first."""
    return [
        (run.id, result)
        for run in ui.store().list("eval", limit=500)
        for result in results_of(run).values()
    ]


def expected_seconds(models: Sequence[str], tasks: Sequence[str], limit: int) -> float | None:
    """Seconds an evaluation should take, from what a sample of each task took before; None where
    one is new.

    Of the same model where it was measured, else of the slowest other one.
    """
    took: dict[str, dict[str, float]] = {}
    for _, result in reversed(stored()):
        counts = {row.task: row.n + row.n_unscored for row in result.rows}
        for task, seconds in result.config.get("seconds", {}).items():
            if counts.get(task):
                took.setdefault(task, {})[result.subject] = seconds / counts[task]
    if any(task not in took for task in tasks):
        return None
    short = [name.rsplit("/", 1)[-1] for name in models]
    return sum(
        limit * took[task].get(name, max(took[task].values())) for name in short for task in tasks
    )


def spread(scores: Any) -> pd.DataFrame:
    """How far each model's score moves between the ways a task was asked; empty where it was asked
    in one.
    """
    bare = scores.assign(base=scores["task"].str.partition("@")[0])
    rows = []
    for (model, task, metric), part in bare.groupby(["model", "base", "metric"], sort=False):
        if len(part) > 1:
            own = part.loc[part["task"] == task, "value"]
            rows.append(
                {
                    "Model": model,
                    "Task": task,
                    "Metric": metric,
                    "Its own way": float(own.iloc[0]) if len(own) else float("nan"),
                    "Least": float(part["value"].min()),
                    "Most": float(part["value"].max()),
                    "Ways": len(part),
                }
            )
    return pd.DataFrame(rows)


def missing(suite: Suite) -> list[str]:
    """The tasks of a suite whose data lies neither in the package nor below `WORKBENCH_DATA`."""
    folder = data_folder()

    def here(task: str) -> bool:
        if task in MADE or task not in SOURCES:
            return True  # of a task that is not ours nothing is known before it is loaded
        file = SOURCES[task].file
        return folder is not None and (
            (folder / file).is_file() or (folder / f"{file}.gz").is_file()
        )

    return [task for task in suite.tasks if not here(task)]


def detectable(limit: int, *, paired: bool) -> str:
    """What a number of items can show, in a sentence: from which difference on, or that it can show
    none.
    """
    if too_few(limit):
        return f":material/warning: **{too_few(limit)}**"
    least = minimal_detectable_difference(limit, paired=paired)
    items = "the same items for all models" if paired else "against a model on other items"
    if pd.isna(least):
        return f":material/warning: **{limit} items a task show no difference of accuracies with 80 % power** ({items})."
    return (
        f"With {limit} items a task, accuracies have to differ by about **{least:.2f}** to show ({items}, 80 % power, "
        "p < 0.05)."
    )


def explain(table: Any) -> None:
    """Say below a table why rows of it have no interval."""
    for reason, part in table[table["reason"] != ""].groupby("reason", sort=False):
        tasks = ", ".join(dict.fromkeys(part["task"]))
        st.caption(f":material/info: {tasks}: no interval, since {reason}.")


def results_of(run: Run) -> dict[str, Results]:
    """What a run has found so far, by the name `workbench.load` takes, in the run's order."""
    folders = [p.parent for p in run.folder.glob("*/results.json")]
    # Models are evaluated one after the other, so the folder written last belongs to the last one.
    ordered = sorted(folders, key=lambda folder: (folder / "results.json").stat().st_mtime_ns)
    if run.result:
        ordered = [
            run.folder / name for name in run.result["models"] if run.folder / name in folders
        ]
    stamps = [(folder / "results.json").stat().st_mtime_ns for folder in ordered]
    read = [_read(str(folder), stamp) for folder, stamp in zip(ordered, stamps, strict=True)]
    return dict(zip(run.config["models"], read, strict=False))


@st.cache_data(max_entries=64, show_spinner=False)
def _read(folder: str, written: int) -> Results:  # `written` is there for the cache's key
    return Results.read(folder)


def newest(base: str, tuned: str, suite: str, limit: int | None) -> Run | None:
    """The newest evaluation of both models on a suite: one that has not failed first, then this
    limit.
    """
    candidates = [
        run
        for run in ui.store().list("eval", limit=500)
        if {base, tuned} <= set(run.config.get("models", [])) and run.config.get("suite") == suite
    ]

    def rank(run: Run) -> tuple[bool, bool, bool]:
        return (
            not (run.active or run.status == "done"),
            run.config.get("limit") != limit,
            not run.active,
        )

    return min(
        candidates, key=rank, default=None
    )  # of several with one rank the first, which is the newest


def rows(results: dict[str, Results], *, headlines: bool = True) -> pd.DataFrame:
    """Every metric of every model as one row; with `headlines` one metric a task."""
    short = short_names(results)
    records = [
        {"model": short[name], **asdict(row)}
        for name, result in results.items()
        for row in result.rows
    ]
    frame: Any = pd.DataFrame(records)
    return frame[frame["headline"]].reset_index(drop=True) if headlines and len(frame) else frame


def score_table(scores: Any) -> pd.DataFrame:
    """Tasks down, models across, each cell a value with its standard error."""
    table = []
    for (task, metric), part in scores.groupby(["task", "metric"], sort=False):
        first = part.iloc[0]
        record: dict[str, Any] = {
            "Task": task,
            "Metric": f"{metric} {'↑' if first['higher_is_better'] else '↓'}",
        }
        record["n"] = _few(part["n"])
        record["Unscored"] = int(part["n_unscored"].sum())
        record["Guessing"] = "–" if pd.isna(first["chance"]) else f"{first['chance']:.3f}"
        record |= {
            name: value_text(*pair)
            for name, *pair in part[["model", "value", "stderr"]].to_numpy().tolist()
        }
        table.append(record)
    return pd.DataFrame(table)


def _few(counts: Any) -> str:
    return " / ".join(str(n) for n in dict.fromkeys(counts))


def compared(results: dict[str, Results], base: str, tuned: str) -> pd.DataFrame:
    """`compare_results` of two models, with the direction of each metric; raises what that raises."""
    table = compare_results(results[base], results[tuned])
    better = {row.task: row.higher_is_better for row in results[base].rows if row.headline}
    return table.assign(higher_is_better=[better.get(task, True) for task in table["task"]])


def verdicts(table: pd.DataFrame, base: str, tuned: str) -> str:
    """A paired table in words, one Markdown bullet a task."""
    return "\n".join(f"- {verdict(row, base, tuned, len(table))}" for row in table.itertuples())


def verdict(row: Any, base: str, tuned: str, n_tasks: int) -> str:
    """One task of a paired table in words: whether the difference is real, and which way."""
    interval = f"95 % interval {signed(row.low)} to {signed(row.high)}, n = {row.n}"
    head = f"**{row.task}** ({row.metric}): "
    if pd.isna(row.low):
        return head + f"{signed(row.difference)}, no interval: {row.reason}."
    if row.low <= 0 <= row.high:
        return head + f"no difference shown ({signed(row.difference)}; the {interval}, includes 0)."
    winner, loser = (
        (tuned, base) if (row.difference > 0) == bool(row.higher_is_better) else (base, tuned)
    )
    text = (
        head
        + f"**{winner}** is better than {loser} by {abs(row.difference):.3f} (the {interval}, excludes 0"
    )
    if row.p_adjusted < 0.05:
        return text + f"; {p_text(row.p_adjusted)} after correction for {n_tasks} tasks)."
    return (
        text
        + f", but {p_text(row.p_adjusted)} after correction for {n_tasks} tasks: a hint, not a finding)."
    )


def decimals(table: pd.DataFrame) -> dict[str, Any]:
    """Three decimals for every fractional column of a table."""
    columns = [name for name in table if pd.api.types.is_float_dtype(table[name])]
    return {str(name): st.column_config.NumberColumn(format="%.3f") for name in columns}
