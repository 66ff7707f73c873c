"""How well each kind is detected: precision and recall on texts whose personal data are labelled.

The texts are presidio-research's `synth_dataset_v2` (Microsoft, MIT licence): 1,500 short English
texts from templates, filled with made-up values from many countries.
"""

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from workbench import paths
from workbench.doors import reading
from workbench.errors import WorkbenchError
from workbench.privacy.kinds import KINDS, matches
from workbench.provenance import data_hash, provenance
from workbench.records import Record, stamp
from workbench.statistics import wilson

FILE = Path("pii_presidio") / "synth_dataset_v2.json.gz"
"""The file of labelled texts, below `WORKBENCH_DATA`."""
LABELS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national_id",
    "IP_ADDRESS": "ip",
}
"""The labels that a kind covers, and the name of that kind."""


@dataclass(frozen=True)
class Detection:
    """How well one kind is detected.

    - `detected`: labelled data that a match of the kind overlaps; `missed`: all other labelled data
    - `right`: matches that overlap a label of the kind; `wrong`: all other matches
    - `precision`: `right` among all matches; `recall`: `detected` among all labelled data. Both
      have Wilson's 95 % interval, and are NaN where there is nothing to divide by
    """

    kind: str
    detected: int
    missed: int
    right: int
    wrong: int
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    recall_low: float
    recall_high: float


@dataclass(frozen=True)
class Measured(Record):
    """Precision and recall of each kind.

    - `data`: the name of the file of labelled texts; `n`: how many texts it holds
    - `kinds`: one record for each kind that a label covers
    - `not_claimed`: labels that no kind covers, and how often each stands in the texts
    """

    data: str
    kinds: list[Detection]
    not_claimed: dict[str, int]
    n: int

    def headline(self) -> str:
        """The result in a few words: precision and recall of each kind."""
        words = (f"{k.kind} {k.precision:.2f}/{k.recall:.2f}" for k in self.kinds)
        return f"precision/recall: {', '.join(words)}"

    def to_frame(self) -> pd.DataFrame:
        """One row for each kind: its counts, precision and recall with their intervals."""
        return pd.DataFrame([vars(kind) for kind in self.kinds])


def measure(path: str | Path | None = None) -> Measured:
    """Precision and recall of every kind that the labels cover.

    A match and a label agree where they overlap and are of one kind. Matches of kinds that have no
    label are not counted.

    Args:
        path: The file of labelled texts; None for `FILE` below `WORKBENCH_DATA`.

    Raises:
        WorkbenchError: Where the file is missing, or is not one of labelled texts.
    """
    file = _labelled_file(path)
    mend = "give synth_dataset_v2.json of presidio-research"
    with reading(file, mend), (gzip.open if file.suffix == ".gz" else open)(file, "rb") as stream:
        rows = json.loads(stream.read())
        counts, not_claimed = _counted(rows)
    kinds = [_detection(kind, counts) for kind in dict.fromkeys(LABELS.values())]
    record = Measured(file.name, kinds, dict(not_claimed.most_common()), len(rows))
    data = {"labels": data_hash(file)}
    stamp(record, provenance("workbench.privacy.measure", {}, models={}, data=data, seed=None))
    return record


def _labelled_file(path: str | Path | None) -> Path:
    """The file of labelled texts, which exists."""
    data = paths.data_folder()
    if path is None and data is None:
        raise WorkbenchError(
            "Precision and recall are measured on presidio's labelled texts, which are not here; "
            f"set WORKBENCH_DATA to a folder that holds {FILE}."
        )
    file = Path(path) if path is not None else Path(data or "") / FILE
    if not file.is_file():
        raise WorkbenchError(f"There is no file {file}; put presidio's labelled texts there.")
    return file


def _counted(rows: list[dict[str, Any]]) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Counts by kind and outcome, as in `Detection`; and counts of labels that no kind covers."""
    counts: Counter[tuple[str, str]] = Counter()
    not_claimed: Counter[str] = Counter()
    for row in rows:
        labels = [_label(label) for label in row["spans"] if label["entity_type"] in LABELS]
        not_claimed.update(
            label["entity_type"] for label in row["spans"] if label["entity_type"] not in LABELS
        )
        hits = [
            _Span(match.kind.name, match.start, match.end)
            for match in matches(row["full_text"], tuple(KINDS.values()))
        ]
        for label in labels:
            agrees = any(_agree(label, hit) for hit in hits)
            counts[label.kind, "detected" if agrees else "missed"] += 1
        for hit in hits:
            agrees = any(_agree(label, hit) for label in labels)
            counts[hit.kind, "right" if agrees else "wrong"] += 1
    return counts, not_claimed


class _Span(NamedTuple):
    """Characters of one kind in a text: from `start` up to, not including, `end`."""

    kind: str
    start: int
    end: int


def _label(label: Mapping[str, Any]) -> _Span:
    kind = LABELS[label["entity_type"]]
    return _Span(kind, int(label["start_position"]), int(label["end_position"]))


def _agree(first: _Span, second: _Span) -> bool:
    """Whether two spans are of one kind and overlap."""
    return first.kind == second.kind and first.start < second.end and second.start < first.end


def _detection(kind: str, counts: Counter[tuple[str, str]]) -> Detection:
    """The counts of one kind with its precision and recall."""
    detected = counts[kind, "detected"]
    missed = counts[kind, "missed"]
    right = counts[kind, "right"]
    wrong = counts[kind, "wrong"]
    precision = _share(right, right + wrong)
    recall = _share(detected, detected + missed)
    return Detection(kind, detected, missed, right, wrong, *precision, *recall)


def _share(hits: int, total: int) -> tuple[float, float, float]:
    """The share of hits with the ends of Wilson's 95 % interval; NaN where the total is 0."""
    nan = float("nan")
    if total == 0:
        return (nan, nan, nan)
    low, high = wilson(hits / total, total)
    return (hits / total, low, high)
