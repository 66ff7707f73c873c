"""Evaluation runs on pages: starting them, reading their results, and putting results in words."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from workbench.benchmarks import Results, Suite, compare_results, suites
from workbench.benchmarks.documents.sources import MADE, SOURCES
from workbench.benchmarks.tasks import PROMPTS, generates
from workbench.paths import data_folder
from workbench.statistics import minimal_detectable_difference, too_few
from workbench.statistics.words import bracketed
from workbench.store import Run, jobs
from workbench.subjects import resolve
from workbench.ui.parts import runs as ui
from workbench.ui.parts.kept import kept
from workbench.ui.parts.models import choices
from workbench.ui.parts.registered import registered
from workbench.ui.parts.words import interval_text, p_text, short_names, signed

PAIR = ("shelf-base", "shelf-tuned")
"""The bundled models: there is always a pair to compare."""
VARIANTS = ("shots=2", *(f"prompt={name}" for name in PROMPTS))
"""The other prompts of a task, where the page shows how much scores depend on the prompt."""


def start(
    models: Sequence[str],
    suite: str,
    limit: int | None,
    *,
    seed: int = 0,
    shots: int | None = None,
    variants: Sequence[str] = (),
) -> Run:
    """Start the evaluation of models on a suite in the background; returns its run.

    Args:
        models: Names; that of a training run is fixed to its newest checkpoint.
        suite: Name of the suite.
        limit: Items per task; None for all.
        seed: Of the random subset of items.
        shots: Few-shot examples; None for each task's own number.
        variants: Other ways each task is asked, such as `VARIANTS`.
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
    """Continue an evaluation that was cut short, without repeating what has been scored."""
    return jobs.launch(ui.store().reopen(run.id), ui.store())


def stored() -> list[tuple[str, Results]]:
    """Every stored evaluation of one model as (run id, results), newest first."""
    return [
        (run.id, result)
        for run in ui.store().list("eval", limit=500)
        for result in results_of(run).values()
    ]


def expected_seconds(models: Sequence[str], tasks: Sequence[str], limit: int) -> float | None:
    """Seconds an evaluation should take, from earlier runs; None where a task was never run.

    Based on the same model where it was measured, otherwise on the slowest other model.

    Args:
        models: Names of the models.
        tasks: Names of the tasks.
        limit: Items per task.
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
    """How far each score varies over the prompts of a task; empty where each had only one."""
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
                    "Default prompt": float(own.iloc[0]) if len(own) else float("nan"),
                    "Lowest": float(part["value"].min()),
                    "Highest": float(part["value"].max()),
                    "Prompts": len(part),
                }
            )
    return pd.DataFrame(rows)


def offered(suite: str, more: Sequence[str]) -> list[str]:
    """The models that the box offers: encoder-decoders if a task of the suite is generated.

    Args:
        suite: Name of the suite.
        more: Names that are chosen already.
    """
    known = suites().get(suite)
    written = known is not None and any(map(generates, known.tasks))
    return list(dict.fromkeys([*choices(seq2seq=written), *more]))


def missing(suite: Suite) -> list[str]:
    """The tasks of a suite whose data is neither in the package nor below `WORKBENCH_DATA`."""
    folder = data_folder()

    def here(task: str) -> bool:
        if task in MADE or task not in SOURCES:
            return True  # a task from outside: what it needs is unknown until it is loaded
        file = SOURCES[task].file
        return folder is not None and (
            (folder / file).is_file() or (folder / f"{file}.gz").is_file()
        )

    return [task for task in suite.tasks if not here(task)]


def detectable(limit: int, *, paired: bool) -> str:
    """A sentence with the smallest difference that a number of items can detect, if any."""
    if too_few(limit):
        return f":material/warning: **{too_few(limit)}**"
    least = minimal_detectable_difference(limit, paired=paired)
    items = "same items for all models" if paired else "against a model on other items"
    if pd.isna(least):
        return (
            f":material/warning: **{limit} items per task cannot detect any difference in accuracy "
            f"with 80 % power** ({items})."
        )
    return (
        f"{limit} items per task detect differences in accuracy from about **{least:.2f}** on "
        f"({items}, 80 % power, p < 0.05)."
    )


def explain(table: Any) -> None:
    """Captions below a table that say why some of its rows have no interval."""
    for reason, part in table[table["reason"] != ""].groupby("reason", sort=False):
        tasks = ", ".join(dict.fromkeys(part["task"]))
        st.caption(f":material/info: {tasks}: no interval, since {reason}.")


def results_of(run: Run) -> dict[str, Results]:
    """The results of a run so far, by model name (as for `workbench.load`), in the run's order."""
    folders = [p.parent for p in run.folder.glob("*/results.json")]
    # Models are evaluated one after the other, so the newest folder belongs to the last one.
    ordered = sorted(folders, key=lambda folder: (folder / "results.json").stat().st_mtime_ns)
    if run.result:
        ordered = [
            run.folder / name for name in run.result["models"] if run.folder / name in folders
        ]
    stamps = [(folder / "results.json").stat().st_mtime_ns for folder in ordered]
    read = [_read(str(folder), stamp) for folder, stamp in zip(ordered, stamps, strict=True)]
    return dict(zip(run.config["models"], read, strict=False))


@kept("results of benchmarks", 64)
def _read(folder: str, written: int) -> Results:  # `written` is there for the cache's key
    return Results.read(folder)


def newest(base: str, tuned: str, suite: str, limit: int | None) -> Run | None:
    """The newest evaluation of both models on a suite; None where there is none.

    Runs that have not failed come first, then runs with the same limit.

    Args:
        base: Name of one model.
        tuned: Name of the other.
        suite: Name of the suite.
        limit: Items per task.
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
    """Every metric of every model as one row; with `headlines` only each task's main one."""
    short = short_names(results)
    records = [
        {"model": short[name], **asdict(row)}
        for name, result in results.items()
        for row in result.rows
    ]
    frame: Any = pd.DataFrame(records)
    return frame[frame["headline"]].reset_index(drop=True) if headlines and len(frame) else frame


def score_table(scores: Any) -> pd.DataFrame:
    """Tasks down, models across, each cell a value with its 95 % interval."""
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
            name: interval_text(value, low, high)
            for name, value, low, high in part[["model", "value", "low", "high"]]
            .to_numpy()
            .tolist()
        }
        table.append(record)
    return pd.DataFrame(table)


def _few(counts: Any) -> str:
    return " / ".join(str(n) for n in dict.fromkeys(counts))


def compared(results: dict[str, Results], base: str, tuned: str) -> pd.DataFrame:
    """The table of `compare_results` with a column for the direction of each metric.

    Args:
        results: By model name.
        base: Name of the base model.
        tuned: Name of the tuned model.

    Raises:
        WorkbenchError: As `compare_results`.
    """
    table = compare_results(results[base], results[tuned])
    better = {row.task: row.higher_is_better for row in results[base].rows if row.headline}
    return table.assign(higher_is_better=[better.get(task, True) for task in table["task"]])


def verdicts(table: pd.DataFrame, base: str, tuned: str) -> str:
    """A paired table in words, one Markdown bullet per task.

    Args:
        table: Of `compared`.
        base: What the base model is called.
        tuned: What the tuned model is called.
    """
    return "\n".join(f"- {verdict(row, base, tuned, len(table))}" for row in table.itertuples())


def verdict(row: Any, base: str, tuned: str, n_tasks: int) -> str:
    """One row of a paired table in words: whether the difference is significant, and which way.

    Args:
        row: Of `compared`, as a named tuple.
        base: What the base model is called.
        tuned: What the tuned model is called.
        n_tasks: Tasks that p-values are corrected for.
    """
    head = f"**{row.task}** ({row.metric}): "
    if pd.isna(row.low):
        return f"{head}{signed(row.difference)}, no interval: {row.reason}."
    interval = f"95 % interval {bracketed(row.low, row.high, signed)}, n = {row.n}"
    if row.low <= 0 <= row.high:
        return f"{head}no significant difference ({signed(row.difference)}, {interval})."
    tuned_wins = (row.difference > 0) == bool(row.higher_is_better)
    winner, loser = (tuned, base) if tuned_wins else (base, tuned)
    # The interval of "by how much", as the amount itself: without the direction's sign.
    size = bracketed(*sorted((abs(row.low), abs(row.high))))
    text = (
        f"{head}**{winner}** is better than {loser} by {abs(row.difference):.3f} "
        f"(95 % interval {size}, n = {row.n}"
    )
    corrected = f"{p_text(row.p_adjusted)} after correction for {n_tasks} tasks"
    if row.p_adjusted < 0.05:
        return f"{text}; {corrected})."
    return f"{text}; but {corrected}: a hint, not a finding)."


def decimals(table: pd.DataFrame) -> dict[str, Any]:
    """Three decimals for every fractional column of a table."""
    columns = [name for name in table if pd.api.types.is_float_dtype(table[name])]
    return {str(name): st.column_config.NumberColumn(format="%.3f") for name in columns}
