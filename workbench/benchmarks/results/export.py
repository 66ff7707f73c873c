"""Results for other programs and people: lm-eval's JSON, Parquet, CSV, and one HTML page that needs
no network.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from workbench.benchmarks.results.paired import compare_results
from workbench.benchmarks.results.record import Results, plain
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import pandas as pd


def harness_json(results: Results) -> dict[str, Any]:
    """The results in the form of lm-eval's own `results_*.json`, which its viewers and tables read."""
    found: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, int]] = {}
    for row in results.rows:
        metric, _, key = row.metric.partition(" (")
        key = key.removesuffix(")") or "none"
        entry = found.setdefault(row.task, {"alias": row.task})
        values = plain({"value": row.value, "stderr": row.stderr})
        entry[f"{metric},{key}"] = values["value"]
        entry[f"{metric}_stderr,{key}"] = "N/A" if values["stderr"] is None else values["stderr"]
        counts.setdefault(row.task, {"original": row.n + row.n_unscored, "effective": row.n})
    better: dict[str, dict[str, bool]] = {}
    for row in results.rows:
        better.setdefault(row.task, {})[row.metric.partition(" (")[0]] = row.higher_is_better
    config = results.config
    return {
        "results": found,
        "group_subtasks": {task: [] for task in found},
        "versions": config.get("task_versions", {}),
        "n-shot": dict.fromkeys(found, config.get("num_fewshot") or 0),
        "n-samples": counts,
        "higher_is_better": better,
        "config": {
            "model": "workbench",
            "model_args": {"model": results.subject},
            "limit": config.get("limit"),
        },
        "model_name": results.subject,
        "model_sha": results.subject_hash,
        "task_hashes": config.get("data", {}),
        "lm_eval_version": config.get("versions", {}).get("lm-eval"),
        "transformers_version": config.get("versions", {}).get("transformers"),
        "random_seed": config.get("seed"),
    }


def table(results: Mapping[str, Results]) -> "pd.DataFrame":
    """Every metric of every model as one row."""
    import pandas as pd

    return pd.DataFrame(
        [{"model": name, **asdict(row)} for name, found in results.items() for row in found.rows]
    )


def report(results: Mapping[str, Results], *, title: str) -> str:
    """One HTML page: what was measured and how, every score with its interval, paired differences,
    figures.
    """
    from workbench.figures import scores as draw
    from workbench.figures.export import Section, Table, page

    every = table(results)
    scores = every.drop(columns=["headline", "higher_is_better"])
    scores = scores.replace("", None).dropna(axis=1, how="all")  # no task had a note, or passages
    sections = [
        Section("", [draw.dots(every[every["headline"]])]),
        Section("Scores, 95 % intervals", [Table(scores)]),
    ]
    names = list(results)
    for other in names[1:]:
        try:
            paired = Table(compare_results(results[names[0]], results[other]))
        except WorkbenchError as error:
            paired = str(error)
        heading = f"{other} minus {names[0]}, the same items, p adjusted over tasks"
        sections.append(Section(heading, [paired]))
    return page(sections, title=title, text=_method(results))


def _method(results: Mapping[str, Results]) -> str:
    first = next(iter(results.values()))
    config = first.config
    shots = (
        "shots as each task says"
        if config.get("num_fewshot") is None
        else f"{config['num_fewshot']} shots"
    )
    lines = [
        f"Suite {first.suite}, version {config.get('suite_version')}; at most {config.get('limit') or 'all'} items a "
        f"task, drawn with seed {config.get('seed')}; {shots}.",
        *(["To measure it again: " + _command(results)] if first.suite != "custom" else []),
        *(f"{name}: weights sha256 {found.subject_hash}" for name, found in results.items()),
        "Versions: "
        + ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items()),
        *(
            f"{name}: {task} skipped: {why}"
            for name, found in results.items()
            for task, why in found.skipped
        ),
    ]
    return "\n".join(lines)


def _command(results: Mapping[str, Results]) -> str:
    first = next(iter(results.values()))
    options = {
        "suite": first.suite,
        "limit": first.config.get("limit"),
        "seed": first.config.get("seed"),
    }
    options["shots"] = first.config.get("num_fewshot")
    given = [
        word
        for name, value in options.items()
        if value is not None
        for word in (f"--{name}", str(value))
    ]
    for variant in dict.fromkeys(
        row.task.partition("@")[2] for row in first.rows if "@" in row.task
    ):
        given += ["--vary", variant]
    return shlex.join(["workbench", "eval", *results, *given])
