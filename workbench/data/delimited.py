"""Strict reader of CSV and TSV: detects delimiter and header, and drops rows of another width."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from workbench.data.columns import is_known
from workbench.data.notes import Notes
from workbench.errors import WorkbenchError

Record = dict[str, object]

LOOKED_AT = 200
"""Number of rows from which delimiter and header are detected."""
DELIMITERS = ",;\t|"
FIELD = 16_000_000
"""Most characters of a field; the csv module's own limit of 131,072 is too small for documents."""
SHARE_REFUSED = 0.05
"""A file with a larger share of rows of another width is refused, since the fault is the file's."""
WRONG_WIDTH = "rows dropped: another number of fields than the header"


def delimited(
    lines: Iterable[str], path: Path, *, tab: bool, notes: Notes, names: Sequence[str] = ()
) -> Iterator[Record]:
    """The rows of a CSV or TSV, by column name; an empty cell is None.

    A file without a header has the columns "1", "2", ... Rows with another number of fields are
    dropped and counted.

    Args:
        lines: Lines of the file, with their line ends.
        path: Named in errors.
        tab: Whether the file is tab-separated, without quotes; else the delimiter is detected.
        notes: Where dropped rows and guesses are written.
        names: Columns that the user named; one of them in the first row makes it a header.

    Raises:
        WorkbenchError: When quotes do not close, or more than one row in twenty has another width.
    """
    csv.field_size_limit(FIELD)
    lines = iter(lines)
    head = list(islice(lines, LOOKED_AT))
    delimiter = "\t" if tab else _delimiter(head)
    if not tab and delimiter != ",":
        notes.remark(f"{path.name} is read with the delimiter {delimiter!r}.")
    rows = _rows(chain(head, lines), delimiter, path, quoted=not tab)
    first = list(islice(rows, LOOKED_AT))
    if not first:
        return
    if has_header([cells for _, cells in first], names):
        header = [cell.strip() for cell in first.pop(0)[1]]
        _check_header(header, path)
    else:
        header = [str(i + 1) for i in range(len(first[0][1]))]
        notes.remark(f"{path.name} is read without a header; its columns are {', '.join(header)}.")
    yield from _records(chain(first, rows), header, path, notes)


def has_header(rows: Sequence[Sequence[str]], names: Sequence[str] = ()) -> bool:
    """Whether the first of these rows names the columns.

    It does when it holds a usual column name or one of `names`. It does not when one of its cells
    is repeated further down in its column, is long, or holds no letter.
    """
    first = [cell.strip() for cell in rows[0]]
    if any(is_known(cell) or cell in names for cell in first):
        return True
    for column, cell in enumerate(first):
        below = {row[column].strip() for row in rows[1:] if column < len(row)}
        if not cell and any(first):
            continue  # the unnamed column of row numbers that some programs write
        if cell in below or len(cell) > 40 or not any(c.isalpha() for c in cell):
            return False
    # Names of columns are single words or two; a sentence is data.
    return all(len(cell.split()) <= 3 for cell in first) and len(rows) > 1


def _delimiter(head: Sequence[str]) -> str:
    """The character that splits most of the first lines into equally many fields."""
    best = ","
    best_share = 0.0
    for candidate in DELIMITERS:
        widths = [len(row) for row in csv.reader(head, delimiter=candidate) if row]
        if not widths:
            continue
        width = max(set(widths), key=widths.count)
        share = widths.count(width) / len(widths)
        # The comma wins a tie: it is what the format's name says.
        if width > 1 and share > best_share + (1e-9 if candidate != "," else 0):
            best = candidate
            best_share = share
    return best


def _rows(
    lines: Iterable[str], delimiter: str, path: Path, *, quoted: bool
) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that is not blank."""
    if quoted:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    try:
        for cells in reader:
            if cells and any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise WorkbenchError(
            f"{path}, line {reader.line_num}, is not readable as a table ({error}); close or "
            "double its quotes."
        ) from error


def _check_header(header: Sequence[str], path: Path) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise WorkbenchError(f"{path} has two columns named {twice[0]!r}; rename one.")


def _records(
    rows: Iterable[tuple[int, list[str]]], header: Sequence[str], path: Path, notes: Notes
) -> Iterator[Record]:
    """Rows by column name; raises early once too many have another width than the header."""
    total = 0
    wrong = 0
    line = 0
    cells: list[str] = []
    for line, cells in rows:
        total += 1
        if len(cells) != len(header):
            wrong += 1
            notes.count(WRONG_WIDTH, where=f"line {line} of {path.name}")
            if wrong > max(1, SHARE_REFUSED * LOOKED_AT) and wrong > SHARE_REFUSED * total:
                raise _too_many(path, line, len(cells), header)
            continue
        yield {
            name: (cell if cell.strip() else None) for name, cell in zip(header, cells, strict=True)
        }
    if wrong > 1 and wrong > SHARE_REFUSED * total:
        raise _too_many(path, line, len(cells), header)


def _too_many(path: Path, line: int, width: int, header: Sequence[str]) -> WorkbenchError:
    return WorkbenchError(
        f"{path} has many rows of another width, such as line {line} with {width} fields under "
        f"{len(header)} columns ({', '.join(header)}); put fields that hold the delimiter in "
        "quotes."
    )
