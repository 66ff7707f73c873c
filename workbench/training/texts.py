"""Documents from files, folders, tables or a `datasets` id; streamed, never all in memory."""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

from workbench import paths, remote
from workbench.data import digits, fetched, hub
from workbench.data.columns import column_for, is_missing
from workbench.data.files import KINDS, format_of, rows
from workbench.data.notes import Notes
from workbench.data.opening import kind_of, open_text
from workbench.doors import path_of
from workbench.errors import WorkbenchError
from workbench.progress import Progress
from workbench.subjects.tokenizer import END
from workbench.training.generated import stories
from workbench.training.grammar import grammar

MADE: dict[str, Callable[[], list[str]]] = {
    "generated": stories,
    "digits": digits.texts,
    "grammar": grammar,
}
"""The sources that need no file: short generated stories, pictures of digits as text, and text
made to teach grammar.
"""
DOCUMENT = 2000
"""Characters after which a long text is cut at the next paragraph, so that a book can be split."""
LONGEST = 8 * DOCUMENT
"""Characters after which a text without paragraphs is cut at a line, a sentence or a space."""
CHUNK = 1 << 18
"""Characters of a file read at a time."""
TABLES = tuple(kind for kind in KINDS if not kind.startswith("conll"))
"""Formats with one text per row."""
PLAIN = (
    *("txt", "text", "md", "markdown", "rst", "tex", "log", "srt"),
    *("py", "js", "ts", "c", "h", "cpp", "hpp", "java", "go", "rs", "rb", "sh", "sql", "r", "jl"),
)
"""Endings of the plain texts read from a folder; a file that is named itself may have any."""
_CONTROL = {i: None for i in range(32) if chr(i) not in "\n\t"} | {0xFEFF: None}


def documents(
    sources: list[str], *, column: str = "", unwrap: bool = False, notes: Notes | None = None
) -> Iterator[str]:
    """The documents of all sources, without control characters and exact duplicates.

    Long texts are cut into documents of about `DOCUMENT` characters, at paragraphs if there are
    any.

    Args:
        sources: Files, folders, fsspec URLs, Hugging Face ids, `generated`, `digits` or `grammar`.
        column: Of tables that holds the text; "" for the usual names (text, content, body, ...).
        unwrap: Whether to join the lines of a paragraph in hard-wrapped prose (see `prose`).
        notes: Counts rows without text, duplicates and encodings.

    Raises:
        WorkbenchError: For a source that cannot be read, and when there is no text at all.
    """
    notes = Notes() if notes is None else notes
    seen: set[bytes] = set()
    for source in sources:
        for text in _source(source, column, unwrap, notes):
            clean = text.translate(_CONTROL).strip(None if unwrap else "\n").rstrip() + "\n"
            if not clean.strip():
                notes.count("documents dropped: empty")
                continue
            key = hashlib.blake2b(clean.encode(errors="replace"), digest_size=12).digest()
            if key in seen:
                notes.count("documents dropped: given twice")
                continue
            seen.add(key)
            yield clean
    if not seen:
        raise WorkbenchError(
            f"The corpus {', '.join(sources)} is empty; give files with text in them."
        )


def pieces(sources: list[str], *, column: str = "", notes: Notes | None = None) -> Iterator[str]:
    """The unchanged text of all sources in pieces, for a corpus that is one text.

    A piece ends after a line break that is followed by a character other than white space, where
    byte-level tokenizers never merge. The rows of a table are joined by line breaks.

    Args:
        sources: Files or folders.
        column: Of tables that holds the text; "" for the usual names.
        notes: Counts rows without text and encodings.

    Raises:
        WorkbenchError: As `documents`, and for `generated`, which has documents only.
    """
    if without_file := MADE.keys() & set(sources):
        raise WorkbenchError(
            f'The texts of {min(without_file)} are documents; use split = "document".'
        )
    notes = Notes() if notes is None else notes
    blank = True
    for path in (path for source in sources for path in files(source)):
        if format_of(path) in TABLES:
            stream = (text.rstrip("\n") + "\n" for text in _table(path, column, notes))
        else:
            stream = _chunks(path, notes)
        for piece in _at_lines(stream):
            blank = blank and not piece.strip()
            yield piece
    if blank:
        raise WorkbenchError(
            f"The corpus {', '.join(sources)} is empty; give files with text in them."
        )


def streams(
    sources: list[str], *, column: str = "", notes: Notes | None = None
) -> Iterator[tuple[str, bool, Iterator[str]]]:
    """Every text of all sources as it stands, nothing dropped: its source, whether it is a document
    of its own, and its parts of bounded length.

    A row of a table and a generated story are documents of their own; a plain file may hold many.

    Args:
        sources: As for `documents`.
        column: As for `documents`.
        notes: Where rows without text and encodings are counted.

    Raises:
        WorkbenchError: For a source that cannot be had or read.
    """
    notes = Notes() if notes is None else notes
    for source in sources:
        if source in MADE:
            yield from ((source, True, iter([text])) for text in MADE[source]())
            continue
        try:
            inside = files(source)
        except WorkbenchError as error:
            rows_of_hub = _hub(source, column, notes, error)
            yield from ((source, True, iter([text])) for text in rows_of_hub)
            continue
        for path in inside:
            if format_of(path) in TABLES:
                yield from ((str(path), True, iter([t])) for t in _table(path, column, notes))
            elif format_of(path):
                raise _tagged(path)
            else:
                yield str(path), False, _chunks(path, notes)


def _at_lines(stream: Iterable[str]) -> Iterator[str]:
    held = ""
    for part in stream:
        held += part
        if len(held) < CHUNK // 16:
            continue
        cuts = [match.end() for match in re.finditer(r"\n(?=\S)", held[-CHUNK:])]
        at = max(0, len(held) - CHUNK) + cuts[-1] if cuts else 0
        if not at and len(held) >= 4 * CHUNK:
            at = held.rfind(" ", 0, len(held) - 1)  # no line ends at all: before a space
            at = at if at > 0 else len(held)
        if at:
            yield held[:at]
            held = held[at:]
    if held:
        yield held


def files(source: str, progress: Progress | None = None) -> list[Path]:
    """The files of a source: a file, or all texts of a folder without the hidden ones.

    Args:
        source: A path, absolute, relative to the working folder or to `WORKBENCH_DATA`; or an
            fsspec URL, from which files are fetched once.
        progress: Called with the share of a URL's files that is fetched.

    Raises:
        WorkbenchError: When there is no such file, or no text in the folder.
    """
    if remote.is_url(source):
        return fetched.files_at(source, _is_named_like_text, progress)
    data = paths.data_folder()
    for path in (path_of(source), *([data / source] if data is not None else [])):
        if path.is_file():
            return [path]
        if path.is_dir() and (inside := sorted(p for p in path.rglob("*") if _is_text(p, path))):
            return inside
    raise WorkbenchError(
        f"No text found for corpus source {source!r}; give a .txt, .md, .jsonl, .csv or .parquet "
        "file or a folder of them, set WORKBENCH_DATA to the folder that holds it, name a data "
        "set of the Hugging Face hub, or use 'generated', 'digits' or 'grammar'."
    )


def check_url(source: str) -> None:
    """Check that there is something to read at a URL; nothing is fetched.

    Raises:
        WorkbenchError: There is not, or the store does not let in.
    """
    fetched.look(source, _is_named_like_text)


def _is_named_like_text(name: PurePosixPath) -> bool:
    """Whether a file, by its name below its folder, is a text or table and not hidden."""
    hidden = any(part.startswith(".") for part in name.parts)
    return not hidden and (kind_of(Path(name)) in PLAIN or format_of(Path(name)) in TABLES)


def _is_text(path: Path, folder: Path) -> bool:
    known = _is_named_like_text(PurePosixPath(path.relative_to(folder)))
    data = paths.data_folder()
    # Below WORKBENCH_DATA a README.md describes the set; elsewhere it is a text like others.
    described = path.name == "README.md" and data is not None and path.is_relative_to(data)
    return known and not described and path.is_file()


def _source(source: str, column: str, unwrap: bool, notes: Notes) -> Iterator[str]:
    if source in MADE:
        return iter(MADE[source]())
    try:
        inside = files(source)
    except WorkbenchError as error:
        return _hub(source, column, notes, error)
    return itertools.chain.from_iterable(_file(path, column, unwrap, notes) for path in inside)


def _file(path: Path, column: str, unwrap: bool, notes: Notes) -> Iterator[str]:
    if format_of(path) in TABLES:
        return _table(path, column, notes)
    if format_of(path):
        raise _tagged(path)
    return prose(_chunks(path, notes), unwrap=unwrap)


def _tagged(path: Path) -> WorkbenchError:
    return WorkbenchError(f"{path} holds words with tags, not running text; give a .txt file.")


def _table(path: Path, column: str, notes: Notes) -> Iterator[str]:
    """The text of each row; rows without one are counted.

    Raises:
        WorkbenchError: When no column is plainly the text, or it holds no text.
    """
    name = ""
    for number, row in enumerate(rows(path, notes, (column,) if column else ()), 1):
        if name not in row:
            name = _column(list(map(str, row)), column, path)
        yield from _cell(row[name], name, f"record {number} of {path.name}", path, notes)


def _cell(value: Any, column: str, where: str, source: Any, notes: Notes) -> Iterator[str]:
    if is_missing(value):
        notes.count("rows dropped: no text", where=where)
        return
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise WorkbenchError(
                f"The column {column} of {source} holds bytes that are not UTF-8 text."
            ) from error
    if not isinstance(value, str):
        raise WorkbenchError(
            f"The column {column} of {source} holds {type(value).__name__} "
            f"({str(value)[:40]!r}), not text; name another one as "
            'column = "..." in [corpus].'
        )
    yield value


def _hub(source: str, column: str, notes: Notes, otherwise: WorkbenchError) -> Iterator[str]:
    """The texts of a Hugging Face data set's training split, memory-mapped by `datasets`."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise otherwise
    import datasets

    try:
        hub.ask(source)
        table: Any = datasets.load_dataset(source, split="train")
    except Exception as error:  # offline, unknown, gated: each library below has its own class
        raise otherwise from error
    name = _column(list(table.column_names), column, source)
    for number, row in enumerate(table, 1):
        yield from _cell(row[name], name, f"record {number} of {source}", source, notes)


def _column(names: list[str], wanted: str, source: Any) -> str:
    """The column that holds the text: the wanted one, else one with a usual name."""
    name = column_for("text", names, {"text": wanted} if wanted else {})
    if name is None and not names:
        raise WorkbenchError(f"{source} has a record without any column; drop it.")
    if name is None:
        raise WorkbenchError(
            f"{source} has no column that is plainly the text; its columns are {', '.join(names)}. "
            f'Name it in [corpus], as in column = "{names[0]}".'
        )
    return name


def _chunks(path: Path, notes: Notes) -> Iterator[str]:
    r"""The text of a file in parts of bounded length, with "\n" for every line break."""
    with open_text(path, notes) as stream:
        carry = ""
        while part := stream.read(CHUNK):
            part = carry + part
            # "\r\n" may be cut in two by the chunk: hold the "\r" back.
            carry = "\r" if part.endswith("\r") else ""
            yield part.removesuffix("\r" if carry else "").replace("\r\n", "\n").replace("\r", "\n")
        if carry:
            yield "\n"


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Lines; one longer than `LONGEST` in parts that end with a sentence or a word."""
    held = ""
    for chunk in chunks:
        *whole, held = (held + chunk).split("\n")
        for line in whole:
            yield from _parts(line + "\n")
        while len(held) > 2 * LONGEST:
            part = next(_parts(held))
            yield part
            held = held[len(part) :]
    yield from _parts(held)


def _parts(line: str) -> Iterator[str]:
    while len(line) > LONGEST:
        cut = max(
            line.rfind(mark, DOCUMENT, LONGEST) for mark in (". ", "! ", "? ", "。", "！", "？")
        )
        cut = cut + 1 if cut > 0 else line.rfind(" ", DOCUMENT, LONGEST)
        cut = cut if cut > 0 else LONGEST
        yield line[:cut]
        line = line[cut:]
    if line:
        yield line


def prose(chunks: Iterable[str], *, unwrap: bool = False) -> Iterator[str]:
    """Documents of a plain text: cut at `END`, or after `DOCUMENT` characters at a paragraph's end.

    A text without paragraphs is cut at a line, a sentence or a word after `LONGEST` characters.

    Args:
        chunks: The text in parts.
        unwrap: Whether to join the lines of paragraphs if the text is hard-wrapped; otherwise lines
            stay, and with them the turns of a dialogue and the indentation of code.
    """
    lines = _lines(chunks)
    first = list(itertools.islice(lines, 2000))
    wrapped = unwrap and _hard_wrapped(first)
    document = ""
    paragraph = ""
    for line in itertools.chain(first, lines, [END]):
        before, end, after = line.partition(END)
        paragraph += before
        if before.strip() and not end and len(paragraph) < LONGEST:
            continue
        if wrapped:
            paragraph = re.sub(r"\s+", " ", paragraph).strip() + "\n"
        document += paragraph + ("\n" if unwrap else "")
        paragraph = after
        if end or len(document) >= DOCUMENT:
            if document.strip():
                yield document.strip("\n")
            document = ""


def _hard_wrapped(lines: list[str]) -> bool:
    """Whether the median line is as long as in text wrapped at a fixed width (55 to 120)."""
    lengths = [len(line) for line in lines if line.strip()]
    return bool(lengths) and 55 <= median(lengths) <= 120
