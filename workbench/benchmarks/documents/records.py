"""What a data set is here: its file below `WORKBENCH_DATA`, its Hugging Face id, and how rows
become documents.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data import files
from workbench.data.files import format_of
from workbench.data.opening import open_text
from workbench.errors import WorkbenchError
from workbench.paths import data_folder

Doc = dict[str, Any]


class MissingDataError(WorkbenchError):
    """A task's data is neither in a folder of `WORKBENCH_DATA` nor to be had from Hugging Face."""


@dataclass(frozen=True)
class Source:
    """A data set: its file below `WORKBENCH_DATA`, its Hugging Face id, and how a row becomes a
    document.

    `hub` is (id, configuration, split), the id with "@revision" where that is not the newest one.
    `row` turns a record of the file into a document (None leaves it out), `hub_row` one of the
    hub's where that differs; `whole` turns all documents into others at the end; `shots` is where
    few-shot examples come from.
    """

    file: str
    row: Callable[[Doc], Doc | None] = dict
    hub: tuple[str, str | None, str] | None = None
    hub_row: Callable[[Doc], Doc | None] | None = None
    whole: Callable[[list[Doc]], list[Doc]] = list
    shots: "Source | None" = None


def read(source: Source) -> list[Doc]:
    """All documents of a source, from its file or from Hugging Face."""
    folder = data_folder()
    found = (
        [p for p in (folder / source.file, folder / f"{source.file}.gz") if p.is_file()]
        if folder
        else []
    )
    rows = (
        map(source.row, records(found[0]))
        if found
        else map(source.hub_row or source.row, _hub(source))
    )
    return source.whole([row for row in rows if row is not None])


def records(path: Path) -> list[Doc]:
    """The rows of a file, packed or not; of a plain text one row with all of it."""
    if format_of(path):
        return files.read(path)
    with open_text(path) as stream:
        return [{"text": stream.read()}]


def _hub(source: Source) -> Iterable[Doc]:
    folder = source.file.split("/")[0]
    if source.hub is None:
        raise MissingDataError(f"needs the folder {folder!r} in WORKBENCH_DATA.")
    import datasets
    from datasets.exceptions import DatasetsError

    (name, _, revision), config, split = source.hub[0].partition("@"), *source.hub[1:]
    try:
        configs = datasets.get_dataset_config_names(name) if config == "*" else [config]
        parts = [
            datasets.load_dataset(name, part, split=split, revision=revision or None)
            for part in configs
        ]
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise MissingDataError(
            f"needs the folder {folder!r} in WORKBENCH_DATA or, online, the Hugging Face data set {name}."
        ) from error
    for part in parts:
        # A list of classes has them one level down.
        classes = {k: getattr(f, "feature", f) for k, f in part.features.items()}
        names = {k: f.names for k, f in classes.items() if isinstance(f, datasets.ClassLabel)}
        for row in part:
            row = dict(row)
            yield {**row, **{f"{k}_name": _named(row[k], labels) for k, labels in names.items()}}


def _named(value: int | list[int], labels: list[str]) -> str | list[str]:
    return [labels[v] for v in value] if isinstance(value, list) else labels[value]


def rank(*parts: object) -> str:
    """A fixed pseudo-random order, the same on every machine."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def among(query: str, right: str, wrong: Iterable[str]) -> Doc:
    """A question with its choices in an order of their own."""
    choices = sorted([right, *wrong], key=lambda choice: rank(query, choice, "order"))
    return {"query": query, "choices": choices, "gold": choices.index(right)}
