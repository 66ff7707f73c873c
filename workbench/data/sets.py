"""The registry of data sets: a known set by name, any Hugging Face data set, or a user's file.

A known set is read from the folder `WORKBENCH_DATA`, else by its Hugging Face id through
`datasets`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench import paths
from workbench.data import dates, hub
from workbench.data.fetched import file_at
from workbench.data.files import Record, read
from workbench.data.notes import Notes
from workbench.doors import path_of
from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Source:
    """A known data set and where its splits are.

    - `kind`: the task it is for
    - `files`: path below `WORKBENCH_DATA`, by split
    - `hub`: Hugging Face id, configuration and revision; None where it is not on the hub
    - `columns`: our column names for the numbered columns of a file without a header
    - `names`: the hub's name of each of our splits
    - `maker`: makes the records of a split; such a set needs no file
    - `only`: where one file holds all splits, the column that says which one a record is of
    """

    kind: str
    files: dict[str, str]
    hub: tuple[str, str | None, str | None] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    only: str = ""
    maker: Callable[[str], list[Record]] | None = None


CONVERTED = "refs/convert/parquet"
"""Hub revision with Parquet tables of sets whose own files need a loading script."""

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
        names={"train": "train", "test": "validation"},
        columns={"1": "text", "2": "label"},
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
        names={"train": "train", "test": "validation"},
    ),
    "instruct_1100": Source("chat", {"train": "instruct_1100/instruction-data.json"}),
    "dolly_hhrlhf_1k": Source(
        "chat",
        {"train": "dolly_hhrlhf_1k/dolly_hhrlhf_train_small.jsonl.gz"},
        ("mosaicml/dolly_hhrlhf", None, None),
        names={"train": "train"},
    ),
    "sgd_dialogues": Source(
        "chat",
        {"train": "sgd_dialogues/train.jsonl.gz", "test": "sgd_dialogues/test.jsonl.gz"},
        ("google-research-datasets/schema_guided_dstc8", "dialogues", CONVERTED),
    ),
    "dates": Source("rewriting", {}, maker=dates.records),
}
"""Data sets to fine-tune on."""
KNOWN = {
    **SETS,
    "ud_ewt": Source(
        "tags",
        {"train": "ud_ewt/train.conllu.gz", "test": "ud_ewt/test.conllu.gz"},
        ("universal-dependencies/universal_dependencies", "en_ewt", CONVERTED),
    ),
}
"""`SETS`, and a treebank with parts of speech."""


def records(
    data: str, split: str = "train", notes: Notes | None = None, names: Sequence[str] = ()
) -> list[Record] | None:
    """The records of one split of a data set; None where it has no such split.

    A file counts as a training split.

    Args:
        data: A known set, a Hugging Face id, a file or its fsspec URL.
        split: "train" or "test".
        notes: Where the reader of a file writes what it dropped or guessed.
        names: Columns that the user named.

    Raises:
        WorkbenchError: When the data cannot be downloaded or read.
    """
    known = KNOWN.get(data)
    if known is not None:
        return _known(data, known, split)
    if is_hub_id(data):
        return list(_hub(data, (data, None, None), split))
    return read(file_at(data), notes, names) if split == "train" else None


def is_hub_id(data: str) -> bool:
    """Whether this is a Hugging Face data set's id and not the path of an existing file."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", data)) and not path_of(data).is_file()


def _known(name: str, known: Source, split: str) -> list[Record] | None:
    if known.maker is not None:
        return known.maker(split)
    if split not in known.files:
        return None
    folder = paths.data_folder()
    file = known.files[split]
    if folder is not None and (folder / file).is_file():
        rows = read(folder / file)
        named = [
            {known.columns.get(column, column): value for column, value in row.items()}
            for row in rows
        ]
        return [row for row in named if not known.only or row[known.only] == split]
    if known.hub is None:
        raise WorkbenchError(
            f"The set {name} is not below WORKBENCH_DATA ({file}) and has no Hugging Face id; set "
            "WORKBENCH_DATA, or give a file of your own."
        )
    return list(_hub(name, known.hub, known.names[split])) if split in known.names else None


def _hub(name: str, address: tuple[str, str | None, str | None], split: str) -> Iterator[Record]:
    import datasets
    from datasets.exceptions import DatasetsError

    repository, config, revision = address
    try:
        hub.ask(repository)
        rows = datasets.load_dataset(repository, config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise WorkbenchError(
            f"The split {split} of {name} is neither below WORKBENCH_DATA nor could {repository} "
            "be downloaded; check the name, set WORKBENCH_DATA or connect to the network."
        ) from error
    features = dict(rows.features.items())
    for row in rows:
        yield {column: _worded(features[column], value) for column, value in dict(row).items()}


def _worded(feature: Any, value: Any) -> Any:
    """The value with class numbers replaced by class names, in lists and nested records too."""
    if isinstance(value, dict) and isinstance(feature, dict):
        return {key: _worded(feature[key], part) for key, part in value.items()}
    if isinstance(value, list):
        return [_worded(getattr(feature, "feature", feature), part) for part in value]
    return (
        feature.int2str(value)
        if hasattr(feature, "int2str") and isinstance(value, int) and value >= 0
        else value
    )
