"""The whole comparison of base and tuned in one record, each part on the same items or texts."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from workbench.benchmarks import Results, compare_results, evaluate
from workbench.benchmarks.suites import find_suite
from workbench.benchmarks.tasks import check_task
from workbench.comparison.beliefs import LensShift, lens_shift
from workbench.comparison.head_scores import ScoreShift, head_table, score_shift
from workbench.comparison.heads import HeadShift, head_shift
from workbench.comparison.layers import LayerShift, layer_shift
from workbench.comparison.matching import VIEWS, obstacles, what_remains, whats_new
from workbench.comparison.text import Parting, TextShift, agreement, partings, text_shift
from workbench.comparison.transfer import QUESTIONS, Transfer, probe_transfer
from workbench.comparison.weights import WeightShift, weight_shift
from workbench.errors import WorkbenchError
from workbench.jsonable import plain
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName, load

Report = Callable[[float, str], None]
NO_TASKS = pd.DataFrame(
    columns=["task", "metric", "base", "tuned", "difference", "low", "high", "p_adjusted", "n"]
)
SHARE = {"weights": 0.1, "heads": 0.25, "text": 0.15, "layers": 0.2, "behaviour": 0.3}
"""Approximate share of the time that each part takes, in the order in which they are measured."""


@dataclass
class Comparison(Record):
    """Two Subjects compared; a part that was not requested or not possible is None or empty.

    Attributes:
        base: Name of the model before.
        tuned: Name of the model after.
        sha256: Hashes of their weights.
        settings: Arguments of the comparison.
        table: One row a task: base, tuned, paired difference, 95 % interval, p, p adjusted over
            tasks, n.
        base_results: The base's benchmark results.
        tuned_results: The tuned model's.
        text: Loss and divergence token by token.
        partings: Where greedy continuations of the same prompts first differ.
        layers: Similarity of the residual streams.
        lenses: The logit lens of both.
        transfer: Linear probes trained on the base and tested on the tuned model.
        heads: Distance of each head's attention.
        scores: Change of each head's catalogue scores.
        weights: The update of every matrix.
        notes: What could not be compared, and why.
    """

    base: str
    tuned: str
    sha256: tuple[str, str]
    settings: dict[str, Any]
    table: pd.DataFrame = field(default_factory=NO_TASKS.copy)
    base_results: Results | None = None
    tuned_results: Results | None = None
    text: TextShift | None = None
    partings: list[Parting] = field(default_factory=list)
    layers: LayerShift | None = None
    lenses: LensShift | None = None
    transfer: list[Transfer] = field(default_factory=list)
    heads: HeadShift | None = None
    scores: ScoreShift | None = None
    weights: WeightShift | None = None
    notes: list[str] = field(default_factory=list)

    UNREADABLE = "it sums the parts up; the run of the Compare page keeps them, or compare again"

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of both models, by their names."""
        return dict(zip((self.base, self.tuned), self.sha256, strict=True))

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of each benchmark task's items."""
        return {} if self.base_results is None else self.base_results.data_hashes()

    def headline(self) -> str:
        """The main results in one line."""
        rows = self.table.to_dict("records")
        tasks = [
            f"{r['task']} {r['difference']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]" for r in rows
        ]
        shown = tasks[:3]
        if len(tasks) > 3:
            shown.append(f"{len(tasks) - 3} more tasks")
        return "; ".join([*shown, f"{', '.join(self.settings.get('parts', ()))} compared"])

    def to_frame(self) -> pd.DataFrame:
        """One row a change: every task, loss, divergence, the head and matrix that moved most."""
        tables = []
        if len(self.table):
            tasks = self.table.assign(
                what=self.table["task"] + " " + self.table["metric"], value=self.table["difference"]
            )
            tables.append(tasks.assign(part="behaviour"))
        if self.text is not None:
            tables.append(
                self.text.summary().rename(columns={"measure": "what"}).assign(part="text")
            )
        if self.heads is not None:
            moved = self.heads.to_frame().head(1)
            tables.append(moved.assign(part="heads", what=moved["name"], value=moved["distance"]))
        if self.weights is not None:
            moved = self.weights.to_frame().head(1)
            tables.append(
                moved.assign(part="weights", what=moved["matrix"], value=moved["relative"])
            )
        columns = ["part", "what", "value", "low", "high", "n"]
        tables = [table.reindex(columns=columns) for table in tables]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)

    def outcomes(self) -> pd.DataFrame:
        """One row a task: items that both, only the base, only the tuned and neither got right."""
        if self.base_results is None or self.tuned_results is None:
            return pd.DataFrame(columns=["task", "both", "only_base", "only_tuned", "neither", "n"])
        return outcomes(self.base_results, self.tuned_results)

    def head_table(self) -> pd.DataFrame:
        """One row a head with all that was measured of its change, most moved attention first."""
        weights = None if self.weights is None else self.weights.heads
        return head_table(self.heads, self.scores, weights)

    def to_dict(self) -> dict[str, Any]:
        """Every part, ready for JSON."""
        layers = None if self.layers is None else self.layers.to_frame().to_dict("records")
        lenses = None if self.lenses is None else self.lenses.to_frame().to_dict("records")
        return {
            "record": type(self).__name__,
            "provenance": plain(self.provenance),
            "base": self.base,
            "tuned": self.tuned,
            "sha256": list(self.sha256),
            "settings": self.settings,
            "tasks": self.table.to_dict("records"),
            "outcomes": self.outcomes().to_dict("records"),
            "text": None if self.text is None else self.text.to_dict(),
            "partings": [asdict(parting) for parting in self.partings],
            "agreement": agreement(self.partings) if self.partings else None,
            "layers": layers,
            "lenses": lenses,
            "transfer": [
                {"question": t.question, "rows": t.to_frame().to_dict("records")}
                for t in self.transfer
            ],
            "heads": None if self.heads is None else self.head_table().to_dict("records"),
            "weights": None if self.weights is None else self.weights.to_dict(),
            "notes": self.notes,
        }


def outcomes(base: Results, tuned: Results) -> pd.DataFrame:
    """One row a task: items by who got them right; tasks without right and wrong are left out."""
    sides = [r.samples.set_index(["task", "doc_id"])["correct"].dropna() for r in (base, tuned)]
    both: Any = pd.concat(sides, axis=1, join="inner", keys=["base", "tuned"])
    rows = []
    for task, part in both.groupby(level="task", sort=False):
        base_right = part["base"] == 1
        tuned_right = part["tuned"] == 1
        rows.append(
            {
                "task": task,
                "both": int((base_right & tuned_right).sum()),
                "only_base": int((base_right & ~tuned_right).sum()),
                "only_tuned": int((tuned_right & ~base_right).sum()),
                "neither": int((~base_right & ~tuned_right).sum()),
                "n": len(part),
            }
        )
    return pd.DataFrame(rows, columns=["task", "both", "only_base", "only_tuned", "neither", "n"])


@public("base", "tuned", loads=True)
@own_modes
def compare(
    base: SubjectOrName,
    tuned: SubjectOrName,
    *,
    suite: str | list[str] = "core",
    limit: int | None = 100,
    seed: int = 0,
    parts: Sequence[str] = tuple(VIEWS),
    progress: Report | None = None,
    partial: Callable[[str, Comparison], None] | None = None,
) -> Comparison:
    """Compare two Subjects part by part, the quick parts first.

    Args:
        base: The model before.
        tuned: The model after.
        suite: Benchmarks for `behaviour`; both models get the same items.
        limit: Items a task at most; None for all.
        seed: Of the items, the random sequences and the linear probes' split.
        parts: Some of behaviour, text, layers, heads, weights; all by default.
        progress: Called with (share done, message).
        partial: Called with (part, the record so far) after each part.

    Raises:
        WorkbenchError: a model, suite, task or part does not exist; raised before anything is
            measured. What cannot be compared, or fails later, becomes a note instead, and the
            other parts remain.
    """
    if unknown := sorted(set(parts) - set(VIEWS)):
        raise WorkbenchError(
            f"There is no part {', '.join(unknown)}; there are {', '.join(VIEWS)}."
        )
    if "behaviour" in parts:
        for task in find_suite(suite).tasks:
            check_task(task)
        if limit is not None and limit < 1:
            raise WorkbenchError(f"limit={limit}: at least one item a task is needed.")
    first = load(base)
    second = load(tuned)
    settings = {"suite": suite, "limit": limit, "seed": seed, "parts": list(parts)}
    comparison = Comparison(first.name, second.name, (first.hash, second.hash), settings)
    missing = obstacles(first, second)
    remains = what_remains(first, second) if set(missing) & set(parts) else ""
    comparison.notes += [sentence for sentence in (whats_new(first, second), remains) if sentence]
    todo = [part for part in SHARE if part in parts and part not in missing]
    whole = sum(SHARE[part] for part in todo)
    before = 0.0
    for part in todo:
        report = _share(progress or _ignore, before / whole, SHARE[part] / whole)
        try:
            _MEASURERS[part](comparison, first, second, report)
        except WorkbenchError as error:
            if len(todo) == 1:
                raise
            comparison.notes.append(f"{part}: {error}")
        before += SHARE[part]
        if partial is not None:
            partial(part, comparison)
    return comparison


def _behaviour(comparison: Comparison, base: Subject, tuned: Subject, report: Report) -> None:
    chosen = {name: comparison.settings[name] for name in ("limit", "seed")}
    results = []
    for i, subject in enumerate((base, tuned)):
        part = _share(report, i / 2, 1 / 2)
        results.append(evaluate(subject, comparison.settings["suite"], **chosen, progress=part))
    comparison.base_results, comparison.tuned_results = results
    comparison.table = compare_results(*results)
    comparison.notes += [f"{task}: {why}" for task, why in results[0].skipped]


def _text(comparison: Comparison, base: Subject, tuned: Subject, report: Report) -> None:
    comparison.text = text_shift(base, tuned, progress=_share(report, 0, 0.4))
    for done, parting in partings(base, tuned):
        comparison.partings.append(parting)
        report(0.4 + 0.6 * done, "writing on from the same prompts")


def _layers(comparison: Comparison, base: Subject, tuned: Subject, report: Report) -> None:
    comparison.layers = layer_shift(base, tuned, progress=_share(report, 0, 0.2))
    comparison.lenses = lens_shift(base, tuned, progress=_share(report, 0.2, 0.3))
    for i, question in enumerate(QUESTIONS):
        part = _share(report, 0.5 + i / len(QUESTIONS) / 2, 0.5 / len(QUESTIONS))
        seed = comparison.settings["seed"]
        comparison.transfer.append(probe_transfer(base, tuned, question, seed=seed, progress=part))


def _heads(comparison: Comparison, base: Subject, tuned: Subject, report: Report) -> None:
    comparison.heads = head_shift(base, tuned, progress=_share(report, 0, 0.3))
    comparison.scores = score_shift(
        base, tuned, seed=comparison.settings["seed"], progress=_share(report, 0.3, 0.7)
    )


def _weights(comparison: Comparison, base: Subject, tuned: Subject, report: Report) -> None:
    comparison.weights = weight_shift(base, tuned, progress=report)


def _ignore(_share: float, _message: str) -> None:
    """The progress callback where the caller wants none."""


def _share(report: Report, start: float, part: float) -> Report:
    """A progress callback for one step, which is `part` of the whole and begins at `start`."""
    return lambda share, message: report(start + part * share, message)


_MEASURERS = {
    "behaviour": _behaviour,
    "text": _text,
    "layers": _layers,
    "heads": _heads,
    "weights": _weights,
}
