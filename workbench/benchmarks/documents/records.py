"""`Source`: a data set's local file, its Hugging Face id, and how its rows become documents."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data import files, hub
from workbench.data.files import format_of
from workbench.data.opening import open_text
from workbench.errors import WorkbenchError
from workbench.paths import data_folder

Doc = dict[str, Any]


class MissingDataError(WorkbenchError):
    """A task's data is neither in `WORKBENCH_DATA` nor available from Hugging Face."""


@dataclass(frozen=True)
class Source:
    """A data set: where its rows are, and how each becomes a document.

    Attributes:
        file: Path below `WORKBENCH_DATA`.
        row: Turns a row of the file into a document; None leaves the row out.
        hub: Hugging Face (id, configuration, split); the id may end in "@revision".
        hub_row: Like `row`, for Hugging Face rows where their fields differ.
        whole: Applied to the list of all documents at the end.
        shots: Where few-shot examples come from.
    """

    file: str
    row: Callable[[Doc], Doc | None] = dict
    hub: tuple[str, str | None, str] | None = None
    hub_row: Callable[[Doc], Doc | None] | None = None
    whole: Callable[[list[Doc]], list[Doc]] = list
    shots: "Source | None" = None


def read(source: Source) -> list[Doc]:
    """All documents of a source, from its local file if there is one, else from Hugging Face.

    Raises:
        MissingDataError: the data is in neither place.
    """
    path = _local_file(source)
    if path is None:
        documents = map(source.hub_row or source.row, _hub(source))
    else:
        documents = map(source.row, records(path))
    return source.whole([document for document in documents if document is not None])


def _local_file(source: Source) -> Path | None:
    folder = data_folder()
    if folder is None:
        return None
    paths = (folder / source.file, folder / f"{source.file}.gz")
    return next((path for path in paths if path.is_file()), None)


def records(path: Path) -> list[Doc]:
    """The rows of a file, compressed or not; a plain text file is one row, `{"text": ...}`."""
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

    address, config, split = source.hub
    name, _, revision = address.partition("@")
    try:
        hub.ask(name)
        configs = datasets.get_dataset_config_names(name) if config == "*" else [config]
        parts = [
            datasets.load_dataset(name, part, split=split, revision=revision or None)
            for part in configs
        ]
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise MissingDataError(
            f"needs the folder {folder!r} in WORKBENCH_DATA or, online, "
            f"the Hugging Face data set {name}."
        ) from error
    for part in parts:
        # A list of class labels has the names one level down.
        classes = {k: getattr(f, "feature", f) for k, f in part.features.items()}
        names = {k: f.names for k, f in classes.items() if isinstance(f, datasets.ClassLabel)}
        for row in part:
            row = dict(row)
            yield {**row, **{f"{k}_name": _named(row[k], labels) for k, labels in names.items()}}


def _named(value: int | list[int], labels: list[str]) -> str | list[str]:
    return [labels[v] for v in value] if isinstance(value, list) else labels[value]


def rank(*parts: object) -> str:
    """A hash to sort by: a pseudo-random order that is the same on every machine."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def among(query: str, right: str, wrong: Iterable[str]) -> Doc:
    """A multiple-choice document {query, choices, gold} with its choices shuffled.

    Args:
        query: The prompt.
        right: The correct choice.
        wrong: The other choices.

    The order is pseudo-random, but fixed by the query, so that it is the same on every machine.
    """
    choices = sorted([right, *wrong], key=lambda choice: rank(query, choice, "order"))
    return {"query": query, "choices": choices, "gold": choices.index(right)}
