"""Labelled texts for fine-tuning: a known set by name (offline folder or Hugging Face id), or a user's file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench import paths
from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Labelled:
    """A known set: its file below `WORKBENCH_DATA`, its Hugging Face id, its columns, and its training rows."""

    file: str
    hub: tuple[str, str | None]
    text: str
    label: str
    only: tuple[str, str] | None = None


SETS = {
    "clinc150": Labelled(
        "clinc150/clinc150.jsonl.gz", ("clinc/clinc_oos", "plus"), "text", "intent", ("split", "train")
    ),
    "banking77": Labelled("banking77/train.csv.gz", ("PolyAI/banking77", None), "text", "category"),
}


def labelled_texts(data: str) -> pd.DataFrame:
    """Columns `text` and `label` (words, underscores turned to spaces) of a set's training rows.

    `data` is a name in `SETS`, or a .csv or .jsonl file with these columns.
    Raises `WorkbenchError` when it cannot be had or lacks a column.
    """
    known = SETS.get(data)
    frame = _read_file(Path(data)) if known is None else _read_known(data, known)
    if known is not None and known.only is not None and known.only[0] in frame:
        frame = frame[frame[known.only[0]] == known.only[1]]
    names = (known.text, known.label) if known is not None else ("text", "label")
    if missing := [n for n in names if n not in frame]:
        raise WorkbenchError(f"{data} has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}.")
    out = pd.DataFrame({"text": frame[names[0]].str.strip(), "label": frame[names[1]].astype(str)})
    out["label"] = out["label"].str.lower().str.replace("_", " ")
    return out[(out["text"] != "") & (out["label"] != "oos")].drop_duplicates().reset_index(drop=True)


def _read_known(name: str, known: Labelled) -> pd.DataFrame:
    folder = paths.data_folder()
    if folder is not None and (folder / known.file).is_file():
        return _read_file(folder / known.file)
    import datasets

    try:
        rows = datasets.load_dataset(*known.hub, split="train")
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"The set {name} is neither below WORKBENCH_DATA ({known.file}) nor could {known.hub[0]} be downloaded; "
            "set WORKBENCH_DATA or connect to the network."
        ) from error
    frame = rows.to_pandas()
    for column, feature in rows.features.items():
        if isinstance(feature, datasets.ClassLabel):
            frame[column] = [feature.int2str(int(i)) for i in frame[column]]
    return frame.rename(columns={"label": known.label})


def _read_file(path: Path) -> pd.DataFrame:
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if not path.is_file() or kind not in ("csv", "jsonl"):
        raise WorkbenchError(f"{path} is no .csv or .jsonl file; give one, or one of {', '.join(SETS)}.")
    try:
        return pd.read_csv(path) if kind == "csv" else pd.read_json(path, lines=True)
    except ValueError as error:
        raise WorkbenchError(f"{path} cannot be read as {kind}: {str(error).splitlines()[0]}.") from error


def hold_out(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out rows, drawn once by seed."""
    held = np.random.default_rng(seed).random(len(frame)) < share
    return frame[~held].reset_index(drop=True), frame[held].reset_index(drop=True)
