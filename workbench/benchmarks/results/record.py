"""`Results`: a row a metric with its uncertainty, a row a sample, and how to repeat it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import jsonable
from workbench.doors import made_folder, path_of, read_frame, reading, writing
from workbench.jsonable import rebuild
from workbench.provenance import Provenance
from workbench.records import Record, stamp
from workbench.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_COLUMNS = {
    "task": "string",
    "doc_id": "int64",
    "metric": "string",
    "input": "string",
    "choices": "string",
    "target": "Int64",
    "prediction": "Int64",
    "target_text": "string",
    "prediction_text": "string",
    "loglikelihoods": "string",
    "correct": "float64",
    "score": "float64",
    "weight": "float64",
    "scores": "string",
    "group": "string",
    "cluster": "string",
}


SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("limit", "num_fewshot", "seed"), int | None),
    **dict.fromkeys(("tasks", "finished"), list[str]),
    **dict.fromkeys(("data", "task_versions", "versions"), dict[str, Any]),
    "seconds": dict[str, float],
}
"""Types of the entries in a result's `config`; entries that are not listed may be anything."""
MEND = "evaluate again, or restore the folder"


@dataclass(frozen=True)
class TaskScore:
    """One metric of one task.

    Attributes:
        task: Name of the task.
        metric: Name of the metric, with the filter in brackets where a task has several.
        value: The score.
        stderr: Standard error; NaN where the samples give none.
        low: Lower end of the 95 % interval; NaN where the samples give none.
        high: Upper end of it.
        n: Samples scored.
        n_unscored: Samples that could not be scored.
        higher_is_better: Whether a larger value is a better one.
        note: A remark, such as on requests that were cut.
        headline: Whether comparisons and leaderboards use this metric of the task.
        chance: What guessing scores, for multiple choice.
        n_clusters: Clusters of samples, such as those about one passage, where there are any; the
            uncertainty is then clustered.
        method: How the interval is computed.
        reason: Why there is no interval, where there is none.
    """

    task: str
    metric: str
    value: float
    stderr: float
    low: float
    high: float
    n: int
    n_unscored: int = 0
    higher_is_better: bool = True
    note: str = ""
    headline: bool = False
    chance: float | None = None
    n_clusters: int | None = None
    method: str = ""
    reason: str = ""


@dataclass
class Results(Record):
    """Scores of one Subject on one suite.

    Attributes:
        subject: Name of the model.
        subject_hash: sha256 of its weights.
        suite: Name of the suite.
        rows: One `TaskScore` a metric.
        samples: One row a sample, with the columns of `SAMPLE_COLUMNS`. `choices`,
            `loglikelihoods` and `scores` (every metric) are JSON; `score` is the headline
            metric's, NaN where it could not be scored, and `weight` its weight in the mean;
            `group` is its category; samples with the same `cluster`, such as a passage, are not
            independent.
        config: Settings, versions, data hashes and timings.
        skipped: (task, reason) of the tasks that could not run.
    """

    subject: str
    subject_hash: str
    suite: str
    rows: list[TaskScore]
    samples: "pd.DataFrame"
    config: dict[str, Any]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    UNREADABLE = "it has no samples; save it to a folder and read that"

    def model_hashes(self) -> dict[str, str]:
        """The model's sha256, by its name."""
        return {self.subject: self.subject_hash}

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of each task's items."""
        return {task: str(digest) for task, digest in self.config.get("data", {}).items()}

    def headline(self) -> str:
        """The headline scores in one line."""
        shown = [row for row in self.rows if row.headline] or self.rows
        rows = [
            f"{r.task} {r.metric} {r.value:.3f} [{r.low:.3f}, {r.high:.3f}] (n = {r.n})"
            for r in shown
        ]
        return f"{self.suite}: {'; '.join(rows) or 'no task was scored'}"

    def table(self) -> "pd.DataFrame":
        """The rows as a frame, one row a metric."""
        import pandas as pd

        return pd.DataFrame(
            [asdict(row) for row in self.rows], columns=list(TaskScore.__dataclass_fields__)
        )

    def to_frame(self) -> "pd.DataFrame":
        """The rows as a frame, one row a metric."""
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """All but the samples, ready for JSON (NaN becomes None)."""
        return {
            "record": type(self).__name__,
            "subject": self.subject,
            "subject_hash": self.subject_hash,
            "suite": self.suite,
            "rows": [plain(asdict(row)) for row in self.rows],
            "config": self.config,
            "skipped": [list(pair) for pair in self.skipped],
            "provenance": jsonable.plain(self.provenance),
        }

    def save(self, path: str | Path) -> Path:
        """Write `samples.parquet` and `results.json` to a folder, and return the folder.

        Each file is written whole or not at all, samples first, so that no row lacks its samples.
        """
        folder = Path(path)
        made_folder(folder)
        with writing(folder / "samples.parquet") as part:
            self.samples.to_parquet(part, index=False)
        with writing(folder / "results.json") as part:
            part.write_text(self.to_json(indent=2), encoding="utf-8")
        return folder

    @classmethod
    def read(cls, path: str | Path) -> "Results":
        """The results that `save` wrote to a folder.

        Raises:
            WorkbenchError: the folder holds no readable results.
        """
        folder = path_of(path)
        with reading(folder, MEND, "holds no readable evaluation results"):
            record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            samples: Any = read_frame(folder / "samples.parquet")
            return cls._rebuilt(record, samples)

    @classmethod
    def _rebuilt(cls, record: dict[str, Any], samples: Any) -> "Results":
        """The results from the contents of the two files; raises whatever does not fit."""
        rows = rebuild(list[TaskScore], record.pop("rows"))
        # A run killed between the two files leaves samples of a task that has no rows yet.
        samples = samples[samples["task"].isin([row.task for row in rows])].reset_index(drop=True)
        skipped = rebuild(list[tuple[str, str]], record.pop("skipped"))
        # Columns added since are empty in results of an earlier version.
        samples = samples.reindex(columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS)
        if samples["metric"].isna().any():
            raise ValueError("a sample does not say by which metric it was scored")
        provenance = rebuild(Provenance | None, record.pop("provenance", None))
        config = {
            name: rebuild(SETTINGS.get(name, Any), value)
            for name, value in record["config"].items()
        }
        results = cls(
            subject=rebuild(str, record["subject"]),
            subject_hash=rebuild(str, record["subject_hash"]),
            suite=rebuild(str, record["suite"]),
            rows=rows,
            samples=samples,
            config=config,
            skipped=skipped,
        )
        stamp(results, provenance)
        return results


def sample_frame(records: list[dict[str, Any]]) -> "pd.DataFrame":
    """Sample records as a frame with the columns and types of `SAMPLE_COLUMNS`."""
    import pandas as pd

    return pd.DataFrame(records, columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS)


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record with None for NaN, and Python numbers for numpy's."""
    values = {k: v.item() if hasattr(v, "item") else v for k, v in record.items()}
    return {k: None if isinstance(v, float) and v != v else v for k, v in values.items()}


def interval(estimate: Estimate) -> dict[str, Any]:
    """The fields of an estimate that a `TaskScore` has too: value, interval, n, method, reason."""
    return {name: value for name, value in vars(estimate).items() if name != "left_out"}
