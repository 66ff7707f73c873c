"""What an evaluation found: a row a metric with its uncertainty, a row a sample, and how to repeat
it.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import jsonable
from workbench.doors import made_folder, path_of, reading, writing
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
"""What the words of a result's `config` hold; others may hold anything."""
MEND = "evaluate again, or restore the folder"


@dataclass(frozen=True)
class TaskScore:
    """One metric of one task.

    `stderr`, `low`, `high` (95 %) are NaN where the samples give none, and `reason` says why;
    `method` is how the interval is computed; `n` counts the samples scored, `n_unscored` those that
    could not be; `n_clusters` what they belong to where some share a passage (then the uncertainty
    is clustered); `chance` is what guessing scores; `headline` marks the metric that comparisons
    use.
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

    `samples` has the columns of SAMPLE_COLUMNS: `choices`, `loglikelihoods` and `scores` (every
    metric) are JSON; `score` is the headline metric's and `weight` its weight in the mean; a NaN
    could not be scored. `group` is what a sample is about, `cluster` what it shares with others,
    such as a passage.
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
        """The sha256 of the model, by its name."""
        return {self.subject: self.subject_hash}

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of each task's items."""
        return {task: str(digest) for task, digest in self.config.get("data", {}).items()}

    def headline(self) -> str:
        """What was found, in a few words."""
        shown = [row for row in self.rows if row.headline] or self.rows
        rows = [
            f"{r.task} {r.metric} {r.value:.3f} [{r.low:.3f}, {r.high:.3f}] (n = {r.n})"
            for r in shown
        ]
        return f"{self.suite}: {'; '.join(rows) or 'no task was scored'}"

    def table(self) -> "pd.DataFrame":
        """The rows as a frame, one a metric."""
        import pandas as pd

        return pd.DataFrame(
            [asdict(row) for row in self.rows], columns=list(TaskScore.__dataclass_fields__)
        )

    def to_frame(self) -> "pd.DataFrame":
        """The rows as a frame, one a metric."""
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """All but the samples, as JSON holds it (NaN becomes None)."""
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

    def save(self, folder: str | Path) -> Path:
        """Write `samples.parquet`, then `results.json`: never half a file, never rows without
        samples.
        """
        folder = Path(folder)
        made_folder(folder)
        with writing(folder / "samples.parquet") as part:
            self.samples.to_parquet(part, index=False)
        with writing(folder / "results.json") as part:
            part.write_text(self.to_json(indent=2), encoding="utf-8")
        return folder

    @classmethod
    def read(cls, folder: str | Path) -> "Results":
        """What `save` wrote."""
        import pandas as pd

        folder = path_of(folder)
        with reading(folder, MEND, "holds no readable evaluation results"):
            record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            samples: Any = pd.read_parquet(folder / "samples.parquet")
            return cls._rebuilt(record, samples)

    @classmethod
    def _rebuilt(cls, record: dict[str, Any], samples: Any) -> "Results":
        """The results of what the two files hold; raises whatever does not fit."""
        rows = rebuild(list[TaskScore], record.pop("rows"))
        # A run killed between the two files leaves samples of a task that has no rows yet.
        samples = samples[samples["task"].isin([row.task for row in rows])].reset_index(drop=True)
        skipped = rebuild(list[tuple[str, str]], record.pop("skipped"))
        # Columns that came later are empty in results of an earlier version.
        samples = samples.reindex(columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS)
        made = rebuild(Provenance | None, record.pop("provenance", None))
        words = {name: rebuild(str, record[name]) for name in ("subject", "subject_hash", "suite")}
        config = {
            word: rebuild(SETTINGS.get(word, Any), value)
            for word, value in record["config"].items()
        }
        found = cls(**words, rows=rows, samples=samples, config=config, skipped=skipped)
        stamp(found, made)
        return found


def sample_frame(records: list[dict[str, Any]]) -> "pd.DataFrame":
    """Sample records as a frame with the columns and types of SAMPLE_COLUMNS."""
    import pandas as pd

    return pd.DataFrame(records, columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS)


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record with None for NaN and built-in numbers for numpy's."""
    values = {k: v.item() if hasattr(v, "item") else v for k, v in record.items()}
    return {k: None if isinstance(v, float) and v != v else v for k, v in values.items()}


def interval(estimate: Estimate) -> dict[str, Any]:
    """What a row takes of an estimate: value, interval, n, method and reason."""
    return {name: value for name, value in vars(estimate).items() if name != "left_out"}
