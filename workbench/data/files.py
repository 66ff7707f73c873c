"""The reader of data files: rows of any supported format, compression and encoding."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

from workbench.data.conll import conll, conllu
from workbench.data.delimited import delimited
from workbench.data.notes import Notes
from workbench.data.opening import kind_of, lines_of, open_text
from workbench.doors import path_of
from workbench.errors import WorkbenchError

Record = dict[str, Any]
"""One row: values by column name, None where the cell is empty."""

KINDS = ("csv", "tsv", "json", "jsonl", "parquet", "conll", "conllu")
"""Formats with rows; all but Parquet may be compressed (.gz, .zst, .bz2, .xz)."""
ALSO = {"ndjson": "jsonl", "jsonlines": "jsonl", "pq": "parquet", "bio": "conll", "iob": "conll"}
"""Other file extensions of the same formats."""
LARGEST = 2_000_000_000
"""Largest file, in bytes on disk, that `read` holds in memory."""
LARGEST_JSON = 1_000_000_000
"""Most characters of a .json file, which has to be read whole."""
PART = 1 << 20
"""Characters of a JSON file read at a time."""
NOT_TEXT = "rows dropped: not a record"


def format_of(path: Path) -> str:
    """The format of a file by its extension; "" where it is none of `KINDS`."""
    kind = kind_of(path)
    kind = ALSO.get(kind, kind)
    return kind if kind in KINDS else ""


def read(path: Path, notes: Notes | None = None, names: Sequence[str] = ()) -> list[Record]:
    """All rows of a file.

    Args:
        path: A file of one of `KINDS`.
        notes: Where dropped rows, encodings and guesses are written.
        names: Columns that the user named, so that a header with them is recognised.

    Raises:
        WorkbenchError: When the file is missing, too large, of another format or damaged.
    """
    path = path_of(path)
    if path.is_file() and path.stat().st_size > LARGEST:
        raise WorkbenchError(
            f"{path} is larger than {LARGEST / 1e9:g} GB; give a smaller part of it."
        )
    return list(rows(path, notes, names))


def rows(path: Path, notes: Notes | None = None, names: Sequence[str] = ()) -> Iterator[Record]:
    """Like `read`, but one row at a time; only .json is held in memory whole.

    Args:
        path: A file of one of `KINDS`.
        notes: Where dropped rows, encodings and guesses are written.
        names: Columns that the user named, so that a header with them is recognised.

    Raises:
        WorkbenchError: When the file is missing, of another format or damaged.
    """
    notes = Notes() if notes is None else notes
    path = path_of(path)
    kind = format_of(path)
    if not path.is_file() or not kind:
        endings = ", ".join(f".{known}" for known in KINDS)
        there = "is no file" if not path.is_file() else f"is no {endings} file"
        raise WorkbenchError(
            f"{path} {there}; give one of {endings}, packed with gzip or zstd or not."
        )
    if kind == "parquet":
        yield from _parquet(path, notes)
        return
    with open_text(path, notes) as stream:
        if kind == "json":
            yield from _json(_whole(stream, path), path, notes)
        elif kind in ("csv", "tsv"):
            lines = lines_of(stream, path)
            yield from delimited(lines, path, tab=kind == "tsv", notes=notes, names=names)
        else:
            yield from _BY_LINE[kind](lines_of(stream, path), path, notes)


def preview(path: Path, n: int = 200) -> tuple[list[Record], Notes]:
    """The first `n` rows of a file, and the notes of its reader."""
    notes = Notes()
    return list(islice(rows(path, notes), n)), notes


def _jsonl(lines: Iterable[str], path: Path, notes: Notes) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise WorkbenchError(
                f"{path}, line {number}, is not JSON ({_reason(error)}); mend or drop the line."
            ) from error
        yield _record(value, f"line {number}", path)


def _record(value: Any, where: str, path: Path) -> Record:
    """A row of JSON; a bare string becomes {"text": string}."""
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise WorkbenchError(
            f"{path}, {where}, holds {_json_word(value)}, not a record such as "
            '{"text": "..."}; mend or drop it.'
        )
    return value


def _whole(stream: IO[str], path: Path) -> str:
    """The whole text of a JSON file, in parts: `read(n)` sets aside memory for n characters."""
    parts = []
    size = 0
    while part := stream.read(PART):
        parts.append(part)
        size += len(part)
        if size > LARGEST_JSON:
            raise WorkbenchError(f"{path} is too large for one JSON document; save it as .jsonl.")
    return "".join(parts)


def _json(text: str, path: Path, notes: Notes) -> Iterator[Record]:
    """Rows of a list of records, SQuAD's nested form, columns, or JSON lines named .json."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = text.splitlines()
        if len(lines) > 1 and _parses(lines[0]):
            notes.remark(f"{path.name} holds one record a line, and is read as JSON lines.")
            yield from _jsonl(lines, path, notes)
            return
        raise WorkbenchError(f"{path} is not JSON ({_reason(error)}); mend it.") from error
    if isinstance(value, dict):
        value = _unwrapped(value, path, notes)
    if not isinstance(value, list):
        raise WorkbenchError(f"{path} holds {_json_word(value)}, not a list of records; mend it.")
    for number, item in enumerate(value, 1):
        yield _record(item, f"record {number}", path)


def _unwrapped(value: dict[str, Any], path: Path, notes: Notes) -> Any:
    """The list of rows in a JSON object: SQuAD's articles, a `data` or `rows` list, or columns."""
    inner = next((value[key] for key in ("data", "rows", "train") if key in value), None)
    if isinstance(inner, list):
        if inner and isinstance(inner[0], dict) and "paragraphs" in inner[0]:
            notes.remark(f"{path.name} is read as SQuAD: one row a question.")
            return list(_squad(inner, path))
        if inner and isinstance(inner[0], dict) and isinstance(inner[0].get("row"), dict):
            return [item["row"] for item in inner]
        return inner
    lists = [column for column in value.values() if isinstance(column, list)]
    if lists and len(lists) == len(value) and len({len(column) for column in lists}) == 1:
        notes.remark(f"{path.name} is read as columns.")
        return [dict(zip(value, cells, strict=True)) for cells in zip(*lists, strict=True)]
    return [value] if not lists else value


def _squad(articles: Iterable[Any], path: Path) -> Iterator[Record]:
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for entry in paragraph["qas"]:
                    yield {"context": paragraph["context"], **entry}
    except (KeyError, TypeError) as error:
        raise WorkbenchError(
            f"{path} looks like SQuAD, but an article lacks {error}; mend it, or give rows with "
            "context, question and answers."
        ) from error


def _parquet(path: Path, notes: Notes) -> Iterator[Record]:
    """Rows in batches; numbered classes become their names where `datasets` kept them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        named = _class_names(table.schema_arrow)
        for batch in table.iter_batches(1024):
            for row in batch.to_pylist():
                yield {column: _named(named.get(column), value) for column, value in row.items()}
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        raise WorkbenchError(
            f"{path} cannot be read as Parquet ({_reason(error)}); download or save it again."
        ) from error


def _class_names(schema: Any) -> dict[str, list[str]]:
    """The class names of columns, as `datasets` writes them beside a table."""
    description = (schema.metadata or {}).get(b"huggingface")
    if description is None:
        return {}
    try:
        features = json.loads(description)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    named = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and isinstance(inner.get("names"), list):
            named[column] = inner["names"]
    return named


def _named(names: list[str] | None, value: Any) -> Any:
    if names is None:
        return value
    if isinstance(value, list):
        return [_named(names, part) for part in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


_BY_LINE: dict[str, Callable[[Iterable[str], Path, Notes], Iterator[Record]]] = {
    "jsonl": _jsonl,
    "conll": conll,
    "conllu": conllu,
}


def _parses(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict | str)
    except (ValueError, RecursionError):
        return False


def _json_word(value: Any) -> str:
    words = {list: "a list", dict: "an object", bool: "a truth value", type(None): "null"}
    return words.get(type(value), "a number" if isinstance(value, int | float) else "text")


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
