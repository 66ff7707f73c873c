"""Where labelled examples come from: a known set by name, any Hugging Face data set, or a user's file.

A known set is read from the folder `WORKBENCH_DATA`, else by its Hugging Face id through `datasets`.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import paths
from workbench.entities import conll
from workbench.errors import WorkbenchError

Record = dict[str, Any]
KINDS = ("csv", "tsv", "json", "jsonl", "parquet", "conll", "conllu")
LARGEST = 2_000_000_000
"""Bytes of a file, unpacked, beyond which it is not read into memory."""


@dataclass(frozen=True)
class Source:
    """A known set: its task, its files below `WORKBENCH_DATA` by split, and its Hugging Face id.

    `hub` is (id, configuration, revision); `names` the hub's words for our splits. `only` keeps the records whose
    column has the split's value, where one file holds all splits.
    """

    kind: str
    files: dict[str, str]
    hub: tuple[str, str | None, str | None] | None = None
    names: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    only: str = ""


CONVERTED = "refs/convert/parquet"
"""Where the hub keeps the tables of sets whose own files are a loading script, which nobody runs any more."""

SETS = {
    "banking77": Source(
        "classification",
        {"train": "banking77/train.csv.gz", "test": "banking77/test.csv.gz"},
        ("mteb/banking77", None, None),
    ),
    "clinc150": Source(
        "classification",
        {"train": "clinc150/clinc150.jsonl.gz", "test": "clinc150/clinc150.jsonl.gz"},
        ("clinc/clinc_oos", "plus", None),
        only="split",
    ),
    "sst2": Source(
        "classification",
        {"train": "sst2/train.tsv.gz", "test": "sst2/dev.tsv.gz"},
        ("stanfordnlp/sst2", None, None),
        {"train": "train", "test": "validation"},
    ),
    "wnut17": Source(
        "entities",
        {"train": "wnut17/train.conll.gz", "test": "wnut17/test.conll.gz"},
        ("leondz/wnut_17", None, CONVERTED),
    ),
    "wikigold": Source("entities", {"train": "wikigold/wikigold.conll.gz"}),
    "squad": Source(
        "questions",
        {"train": "squad/squad_v2_subset_train.jsonl.gz", "test": "squad/xquad_en_test.jsonl.gz"},
        ("rajpurkar/squad", None, None),
        {"train": "train", "test": "validation"},
    ),
    "instruct_1100": Source("chat", {"train": "instruct_1100/instruction-data.json"}),
    "dolly_hhrlhf_1k": Source(
        "chat",
        {"train": "dolly_hhrlhf_1k/dolly_hhrlhf_train_small.jsonl.gz"},
        ("mosaicml/dolly_hhrlhf", None, None),
        {"train": "train"},
    ),
    "sgd_dialogues": Source(
        "chat",
        {"train": "sgd_dialogues/train.jsonl.gz", "test": "sgd_dialogues/test.jsonl.gz"},
        ("google-research-datasets/schema_guided_dstc8", "dialogues", CONVERTED),
    ),
}
"""The sets to fine-tune on."""
KNOWN = {
    **SETS,
    "ud_ewt": Source(
        "tags",
        {"train": "ud_ewt/train.conllu.gz", "test": "ud_ewt/test.conllu.gz"},
        ("universal-dependencies/universal_dependencies", "en_ewt", CONVERTED),
    ),
}
"""These, and a treebank to read parts of speech from."""


def records(data: str, split: str = "train") -> list[Record] | None:
    """The records of a split of a set, a Hugging Face id or a file; None where there is no such split.

    A file is its own training split. Raises `WorkbenchError` when the data cannot be had or read.
    """
    known = KNOWN.get(data)
    if known is not None:
        return _known(data, known, split)
    if Path(data).is_file() or not re.fullmatch(r"[\w.-]+/[\w.-]+", data):
        return list(read(Path(data))) if split == "train" else None
    return list(_hub(data, (data, None, None), split))


def _known(name: str, known: Source, split: str) -> list[Record] | None:
    if split not in known.files:
        return None
    folder, file = paths.data_folder(), known.files[split]
    if folder is not None and (folder / file).is_file():
        found: Iterable[Record] = read(folder / file)
        return [r for r in found if not known.only or r[known.only] == split]
    if known.hub is None:
        raise WorkbenchError(
            f"The set {name} is not below WORKBENCH_DATA ({file}) and has no Hugging Face id; set WORKBENCH_DATA, "
            "or give a file of your own."
        )
    return list(_hub(name, known.hub, known.names[split])) if split in known.names else None


def _hub(name: str, hub: tuple[str, str | None, str | None], split: str) -> Iterator[Record]:
    import datasets
    from datasets.exceptions import DatasetsError

    repository, config, revision = hub
    try:
        rows = datasets.load_dataset(repository, config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise WorkbenchError(
            f"The split {split} of {name} is neither below WORKBENCH_DATA nor could {repository} be downloaded; "
            "check the name, set WORKBENCH_DATA or connect to the network."
        ) from error
    words = {column: feature for column, feature in rows.features.items()}
    for row in rows:
        yield {column: _worded(words[column], value) for column, value in dict(row).items()}


def _worded(feature: Any, value: Any) -> Any:
    """Class numbers as their words, in lists and nested records too."""
    if isinstance(value, dict) and isinstance(feature, dict):
        return {key: _worded(feature[key], part) for key, part in value.items()}
    if isinstance(value, list):
        return [_worded(getattr(feature, "feature", feature), part) for part in value]
    return feature.int2str(value) if hasattr(feature, "int2str") and isinstance(value, int) and value >= 0 else value


def read(path: Path) -> Iterator[Record]:
    """The records of a .csv, .tsv, .json, .jsonl, .parquet or .conll file, packed with gzip or not.

    A .tsv without a header has the columns text and label; a .conll file gives {tokens, tags}, a .conllu file
    those with the universal part of speech as tag.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if not path.is_file() or kind not in KINDS:
        raise WorkbenchError(
            f"{path} is no {', '.join('.' + k for k in KINDS)} file; give one, a Hugging Face id, "
            f"or one of {', '.join(SETS)}."
        )
    if path.stat().st_size > LARGEST:
        raise WorkbenchError(f"{path} is larger than {LARGEST / 1e9:g} GB; give a smaller part of it.")
    if kind == "parquet":
        import pandas as pd

        yield from pd.read_parquet(path).to_dict("records")  # pyright: ignore[reportReturnType]
        return
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with opened as raw:
        text = io.TextIOWrapper(io.BytesIO(raw.read(LARGEST)), encoding="utf-8", newline="")
    try:
        yield from _PARSERS[kind](text)
    except (ValueError, csv.Error, OSError, EOFError) as error:
        raise WorkbenchError(f"{path} cannot be read as {kind}: {str(error).splitlines()[0]}.") from error


def _jsonl(text: io.TextIOBase) -> Iterator[Record]:
    for number, line in enumerate(text, 1):
        if line.strip():
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError(f"line {number} is no JSON object")
            yield value


def _json(text: io.TextIOBase) -> Iterator[Record]:
    rows = json.loads(text.read())
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it must be a list of JSON objects")
    yield from rows


def _tsv(text: io.TextIOBase) -> Iterator[Record]:
    rows = [line.rstrip("\r\n").split("\t") for line in text if line.strip()]
    header = rows.pop(0) if rows and {"text", "label"} <= set(rows[0]) else ["text", "label"]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a line has {len(row)} columns, not {len(header)}: {' '.join(row)[:60]!r}")
        yield dict(zip(header, row, strict=True))


def _conllu(text: io.TextIOBase) -> Iterator[Record]:
    """Words and universal parts of speech; ranges of contracted words and empty nodes are left out."""
    words: list[str] = []
    tags: list[str] = []
    for line in [*text, ""]:
        parts = line.rstrip("\r\n").split("\t")
        if len(parts) >= 4:
            if parts[0].isdigit():
                words.append(parts[1])
                tags.append(parts[3])
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"a line has {len(parts)} columns, not ten: {line.strip()[:60]!r}")
        elif not line.strip() and words:
            yield {"tokens": words, "tags": tags}
            words, tags = [], []


_PARSERS = {
    "csv": csv.DictReader,
    "tsv": _tsv,
    "json": _json,
    "jsonl": _jsonl,
    "conll": conll,
    "conllu": _conllu,
}
