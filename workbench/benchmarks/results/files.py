"""Writes scores as lm-eval's JSON, CSV, Parquet or HTML, and reads such files back."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.benchmarks.results.export import harness_json, report, table
from workbench.benchmarks.results.record import Results
from workbench.doors import path_of, read_frame, reading, writing
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".html", ".json", ".csv", ".parquet")
COLUMNS = ("model", "task", "metric", "value", "stderr", "low", "high", "n")
"""Columns of every table that is read back; low and high are NaN where a file has no intervals."""
LARGEST = 50_000_000
"""Bytes; files of scores are smaller, files of samples may be larger."""


def write_scores(
    results: Mapping[str, Results], path: str | Path, *, title: str = "Scores"
) -> Path:
    """Write scores in the format that the path's suffix names, and return the path.

    Args:
        results: By model name.
        path: `.json` in the format of lm-eval's `results_*.json` (several models: a list of them),
            `.csv` or `.parquet` with a row a metric, or `.html`, a report with figures.
        title: Of the report.

    Raises:
        WorkbenchError: another suffix, a full disk, or a place that may not be written to.
    """
    path = check_suffix(path)
    with writing(path) as part:
        if path.suffix == ".html":
            part.write_text(report(results, title=title), encoding="utf-8")
        elif path.suffix == ".json":
            records = [harness_json(scored) for scored in results.values()]
            text = json.dumps(
                records[0] if len(records) == 1 else records, indent=2, allow_nan=False
            )
            part.write_text(text + "\n", encoding="utf-8")
        elif path.suffix == ".csv":
            table(results).to_csv(part, index=False)
        else:
            table(results).to_parquet(part, index=False)
    return path


def check_suffix(path: str | Path) -> Path:
    """The path, if its suffix is one of `SUFFIXES`.

    Raises:
        WorkbenchError: another suffix.
    """
    path = path_of(path)
    if path.suffix not in SUFFIXES:
        raise WorkbenchError(
            f"{path} must end in one of {', '.join(SUFFIXES)}, which says its form."
        )
    return path


def read_scores(path: str | Path) -> "pd.DataFrame":
    """One row a metric, with at least `COLUMNS`, from a file of scores.

    Args:
        path: A `.json`, `.csv` or `.parquet` file by `write_scores`, or lm-eval's own
            `results_*.json`.

    Raises:
        WorkbenchError: the file does not exist, is too large, or holds no such scores.
    """
    import pandas as pd

    path = path_of(path)
    if not path.is_file():
        raise WorkbenchError(
            f"There is no file {path}; give a .json, .csv or .parquet file of scores."
        )
    if path.stat().st_size > LARGEST:
        raise WorkbenchError(
            f"{path} is larger than {LARGEST // 10**6} MB, which no file of scores is."
        )
    with reading(
        path, "give a file that write_scores or lm-eval wrote", "holds no scores that can be read"
    ):
        if path.suffix == ".json":
            read = json.loads(path.read_text(encoding="utf-8"))
            rows = [
                row
                for record in (read if isinstance(read, list) else [read])
                for row in _harness_rows(record)
            ]
            scores = pd.DataFrame(rows, columns=list(COLUMNS))
        elif path.suffix == ".csv":
            scores = pd.read_csv(path)
        else:
            scores = read_frame(path)
    if lacking := [column for column in COLUMNS if column not in scores.columns]:
        raise WorkbenchError(f"{path} holds no scores: it has no column {', '.join(lacking)}.")
    return scores


def _harness_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an lm-eval result record, whose keys are `metric,filter`, `metric_stderr,filter`."""
    model = record.get("model_name") or record.get("config", {}).get("model_args") or "?"
    rows = []
    for task, entry in record["results"].items():
        n = record.get("n-samples", {}).get(task, {}).get("effective")
        for key, value in entry.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float | None):
                continue
            stderr = entry.get(f"{metric}_stderr,{kind}")
            rows.append(
                {
                    "model": str(model),
                    "task": task,
                    "metric": metric if kind == "none" else f"{metric} ({kind})",
                    "value": math.nan if value is None else value,
                    "stderr": stderr if isinstance(stderr, int | float) else math.nan,
                    "low": math.nan,
                    "high": math.nan,
                    "n": n,
                }
            )
    return rows
