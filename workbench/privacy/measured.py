"""How well the kinds are found: precision and recall on a set whose personal data are labelled.

The set is presidio-research's `synth_dataset_v2` (Microsoft, MIT licence): 1,500 short English
texts from templates, filled with made-up values from many countries.
"""

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench import paths
from workbench.doors import reading
from workbench.errors import WorkbenchError
from workbench.privacy.kinds import KINDS, matches
from workbench.provenance import data_hash, provenance
from workbench.records import Record, stamp
from workbench.statistics import wilson

FILE = Path("pii_presidio") / "synth_dataset_v2.json.gz"
"""The set, below `WORKBENCH_DATA`."""
LABELS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national_id",
    "IP_ADDRESS": "ip",
}
"""The set's labels that a kind of ours claims to find."""


@dataclass(frozen=True)
class Found:
    """How well one kind is found.

    - `found`: labelled data that a match overlaps; `missed`: those that none does
    - `right`: matches that overlap such a label; `wrong`: matches that do not
    - `precision`, `recall`: NaN where there is nothing to divide by; with Wilson's 95 % intervals
    """

    kind: str
    found: int
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
    """Precision and recall by kind; `not_claimed` counts labels that no kind claims to find."""

    data: str
    kinds: list[Found]
    not_claimed: dict[str, int]
    n: int

    def headline(self) -> str:
        """What was found, in a few words."""
        words = (f"{k.kind} {k.precision:.2f}/{k.recall:.2f}" for k in self.kinds)
        return f"precision/recall: {', '.join(words)}"

    def to_frame(self) -> pd.DataFrame:
        """One row a kind."""
        return pd.DataFrame([vars(kind) for kind in self.kinds])


def measure(path: str | Path | None = None) -> Measured:
    """Precision and recall of every kind that the labels cover.

    A match and a label agree where they overlap and are of one kind. Matches of kinds that the set
    does not label count for nothing.

    Args:
        path: The set's file; without, it is looked for below `WORKBENCH_DATA`.

    Raises:
        WorkbenchError: Where the set is not at hand, or is another file.
    """
    file = _file(path)
    mend = "give synth_dataset_v2.json of presidio-research"
    with reading(file, mend), (gzip.open if file.suffix == ".gz" else open)(file, "rb") as stream:
        rows = json.loads(stream.read())
        counts, other = _counted(rows)
    kinds = [_found(kind, counts) for kind in dict.fromkeys(LABELS.values())]
    record = Measured(file.name, kinds, dict(other.most_common()), len(rows))
    data = {"labels": data_hash(file)}
    stamp(record, provenance("workbench.privacy.measure", {}, models={}, data=data, seed=None))
    return record


def _file(path: str | Path | None) -> Path:
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
    """How often each kind is found, missed, right and wrong, and how often other labels stand."""
    counts: Counter[tuple[str, str]] = Counter()
    other: Counter[str] = Counter()
    for row in rows:
        labelled = [
            (LABELS.get(s["entity_type"], ""), _span(s), s["entity_type"]) for s in row["spans"]
        ]
        other.update(name for kind, _, name in labelled if not kind)
        found = [
            (m.kind.name, (m.start, m.end))
            for m in matches(row["full_text"], tuple(KINDS.values()))
        ]
        for kind, span, _ in labelled:
            if kind:
                hit = any(kind == name and _overlap(span, at) for name, at in found)
                counts[kind, "found" if hit else "missed"] += 1
        for name, at in found:
            hit = any(name == kind and _overlap(span, at) for kind, span, _ in labelled)
            counts[name, "right" if hit else "wrong"] += 1
    return counts, other


def _span(label: Mapping[str, Any]) -> tuple[int, int]:
    return int(label["start_position"]), int(label["end_position"])


def _overlap(first: tuple[int, int], second: tuple[int, int]) -> bool:
    return first[0] < second[1] and second[0] < first[1]


def _found(kind: str, counts: Counter[tuple[str, str]]) -> Found:
    n = {word: counts[kind, word] for word in ("found", "missed", "right", "wrong")}
    nan = float("nan")

    def share(hits: int, of: int) -> tuple[float, float, float]:
        return (hits / of, *wilson(hits / of, of)) if of else (nan, nan, nan)

    precision = share(n["right"], n["right"] + n["wrong"])
    recall = share(n["found"], n["found"] + n["missed"])
    return Found(kind, *n.values(), *precision, *recall)
