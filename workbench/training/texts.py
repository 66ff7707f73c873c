"""Documents from wherever text lies: files, folders, JSONL, Parquet, a `datasets` id; streamed, never all in memory."""

import gzip
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import IO, Any

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.subjects.tokenizer import END
from workbench.training.generated import stories

GENERATED = "generated"
"""The source that needs no file: little stories made on the spot."""

DOCUMENT = 2000
"""Characters after which a long text is cut at the next paragraph, so that books can be split at all."""

COLUMNS = ("text", "content", "story", "document")
"""Where the rows of JSONL, Parquet and hub sets may have their text."""

ENDINGS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
_CONTROL = {i: None for i in range(32) if chr(i) not in "\n\t"} | {0xFEFF: None}


def documents(sources: list[str]) -> Iterator[str]:
    """The documents of all sources, cleaned of control characters, exact duplicates dropped.

    Long texts come in documents of about `DOCUMENT` characters, cut at paragraphs. Raises `WorkbenchError` for a
    source that cannot be had or read, and when there is no text at all.
    """
    seen: set[bytes] = set()
    for source in sources:
        for text in _source(source):
            text = text.translate(_CONTROL).strip() + "\n"
            key = hashlib.blake2b(text.encode(), digest_size=12).digest()
            if key not in seen and text != "\n":
                seen.add(key)
                yield text
    if not seen:
        raise WorkbenchError(f"The corpus {', '.join(sources)} is empty; give files with text in them.")


def whole(sources: list[str]) -> str:
    """The text of all sources as it stands, for corpora that are one text."""
    if GENERATED in sources:
        raise WorkbenchError('The generated stories are documents; use split = "document".')
    parts = []
    for path in (p for source in sources for p in files(source)):
        with _opened(path) as lines:
            parts.append("".join(_guarded(lines, path)))
    if not (text := "".join(parts)):
        raise WorkbenchError(f"The corpus {', '.join(sources)} is empty; give files with text in them.")
    return text


def files(source: str) -> list[Path]:
    """The files of a source: a file, or all texts of a folder, also below `WORKBENCH_DATA`."""
    data = paths.data_folder()
    for path in (Path(source), *([data / source] if data is not None else [])):
        if path.is_file():
            return [path]
        if path.is_dir() and (found := sorted(p for p in path.rglob("*") if p.name.endswith(ENDINGS))):
            return found
    raise WorkbenchError(
        f"No text found for corpus source {source!r}; give a .txt, .jsonl or .parquet file or a folder of them, set "
        "WORKBENCH_DATA to the folder that holds it, name a data set of the Hugging Face hub, or use 'generated'."
    )


def _source(source: str) -> Iterator[str]:
    if source == GENERATED:
        return iter(stories())
    try:
        found = files(source)
    except WorkbenchError as error:
        return _hub(source, error)
    return itertools.chain.from_iterable(map(_file, found))


def _file(path: Path) -> Iterator[str]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.ParquetFile(path)
        column = _column(table.schema_arrow.names, path)
        for batch in table.iter_batches(1024, columns=[column]):
            yield from (text for text in batch.column(0).to_pylist() if text)
        return
    with _opened(path) as lines:
        if ".jsonl" in path.name:
            yield from _rows(lines, path)
        else:
            yield from prose(_guarded(lines, path))


def _rows(lines: Iterable[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(_guarded(lines, path), 1):
        try:
            row = json.loads(line)
            yield row if isinstance(row, str) else str(row[_column(row, path)])
        except (json.JSONDecodeError, TypeError) as error:
            raise WorkbenchError(f"{path}, line {number}, is not JSON with a text; mend or drop it.") from error


def _hub(source: str, otherwise: WorkbenchError) -> Iterator[str]:
    """The training rows of a set of the hub, memory-mapped by `datasets`."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise otherwise
    import datasets

    try:
        rows: Any = datasets.load_dataset(source, split="train")
    except Exception as error:  # offline, unknown, gated: each library below has its own class
        raise otherwise from error
    column = _column(rows.column_names, source)
    return (row[column] for row in rows)


def _column(names: Iterable[str], where: Any) -> str:
    for name in COLUMNS:
        if name in names:
            return name
    raise WorkbenchError(f"{where} has no column {', '.join(COLUMNS)}; it has {', '.join(map(str, names))}.")


def _opened(path: Path) -> IO[str]:
    raw = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
    return io.TextIOWrapper(raw, encoding="utf-8-sig")  # pyright: ignore[reportArgumentType]


def _guarded(lines: Iterable[str], path: Path) -> Iterator[str]:
    number = 0
    try:
        for line in lines:
            number += 1
            yield line
    except UnicodeDecodeError as error:
        raise WorkbenchError(
            f"{path} is not UTF-8 text ({error.reason} after line {number}); convert it first."
        ) from error


def prose(lines: Iterator[str]) -> Iterator[str]:
    """Documents of plain text: cut at `END`, else at the first paragraph's end past `DOCUMENT` characters.

    The lines of hard-wrapped prose are joined into paragraphs; short-lined text such as verse stays as it is.
    """
    first = list(itertools.islice(lines, 2000))
    lengths = [len(line) for line in first if line.strip()]
    wrapped = bool(lengths) and 55 <= median(lengths) <= 120
    document, paragraph = "", ""
    for line in itertools.chain(first, lines, [END]):
        before, end, after = line.partition(END)
        paragraph += before
        if before.strip() and not end and len(paragraph) < 8 * DOCUMENT:
            continue
        document += (re.sub(r"\s+", " ", paragraph).strip() + "\n" if wrapped else paragraph) + "\n"
        paragraph = after
        if end or len(document) >= DOCUMENT:
            if document.strip():
                yield document.strip("\n")
            document = ""
