"""Results as lm-eval's JSON, as a table, and as one HTML page that needs no network."""

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
    """The results in the format of lm-eval's own `results_*.json`, which its viewers read."""
    scores: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, int]] = {}
    for row in results.rows:
        metric, _, key = row.metric.partition(" (")
        key = key.removesuffix(")") or "none"
        entry = scores.setdefault(row.task, {"alias": row.task})
        values = plain({"value": row.value, "stderr": row.stderr})
        entry[f"{metric},{key}"] = values["value"]
        entry[f"{metric}_stderr,{key}"] = "N/A" if values["stderr"] is None else values["stderr"]
        counts.setdefault(row.task, {"original": row.n + row.n_unscored, "effective": row.n})
    better: dict[str, dict[str, bool]] = {}
    for row in results.rows:
        better.setdefault(row.task, {})[row.metric.partition(" (")[0]] = row.higher_is_better
    config = results.config
    return {
        "results": scores,
        "group_subtasks": {task: [] for task in scores},
        "versions": config.get("task_versions", {}),
        "n-shot": dict.fromkeys(scores, config.get("num_fewshot") or 0),
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
    """One row for every metric of every model."""
    import pandas as pd

    return pd.DataFrame(
        [{"model": name, **asdict(row)} for name, scored in results.items() for row in scored.rows]
    )


def report(results: Mapping[str, Results], *, title: str) -> str:
    """One HTML page: what was measured and how, scores with intervals, paired differences, figures.

    Args:
        results: By model name; the first is the base of the paired differences.
        title: Of the page.
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
        f"Suite {first.suite}, version {config.get('suite_version')}; at most "
        f"{config.get('limit') or 'all'} items a task, drawn with seed {config.get('seed')}; "
        f"{shots}."
    ]
    if first.suite != "custom":
        lines.append("To measure it again: " + _command(results))
    for name, scored in results.items():
        lines.append(f"{name}: weights sha256 {scored.subject_hash}")
    versions = config.get("versions", {}).items()
    lines.append("Versions: " + ", ".join(f"{name} {version}" for name, version in versions))
    for name, scored in results.items():
        lines += [f"{name}: {task} skipped: {why}" for task, why in scored.skipped]
    return "\n".join(lines)


def _command(results: Mapping[str, Results]) -> str:
    """The command line that runs the evaluation again."""
    first = next(iter(results.values()))
    settings = {
        "suite": first.suite,
        "limit": first.config.get("limit"),
        "seed": first.config.get("seed"),
        "shots": first.config.get("num_fewshot"),
    }
    options: list[str] = []
    for name, value in settings.items():
        if value is not None:
            options += [f"--{name}", str(value)]
    variants = [row.task.partition("@")[2] for row in first.rows if "@" in row.task]
    for variant in dict.fromkeys(variants):
        options += ["--vary", variant]
    return shlex.join(["workbench", "eval", *results, *options])
