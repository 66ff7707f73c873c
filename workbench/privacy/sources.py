"""What is scanned, as a stream of parts: a list of texts, or files, tables and sets that are read
as training reads them.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from workbench.data.notes import Notes
from workbench.errors import WorkbenchError
from workbench.privacy.stream import Part
from workbench.subjects.tokenizer import END
from workbench.training.texts import DOCUMENT, streams

Source = str | Path | Iterable[str | Path]
"""A file, folder, Hugging Face id or "generated", as a text or path; a list of paths; or texts."""
_MARK = re.compile(re.escape(END))
_BLANK = re.compile(r"\n[ \t]*\n\s*")


def source_names(source: Source) -> list[str]:
    """The names of the files and sets to scan; empty where the source is a list of texts.

    A single text or path is a name, and a list of paths is a list of names.
    """
    if isinstance(source, str | Path):
        return [str(source)]
    if isinstance(source, list | tuple) and source and all(isinstance(s, Path) for s in source):
        return [str(path) for path in source]
    return []


def parts_of(source: Source, column: str, notes: Notes) -> Iterator[Part]:
    """The parts of a source, in order.

    A document is a row of a table or a text of a list. A plain file is cut as training cuts it: at
    the mark that ends a text, or at the first blank line after about 2,000 characters.

    Args:
        source: What to read; see `Source`.
        column: The column of a table that holds the text; "" for the usual names.
        notes: Collects what the reader assumed, such as an encoding.

    Raises:
        WorkbenchError: For a source that cannot be read, for a list with anything but texts in it,
            and for a corpus without any text.
    """
    names = source_names(source)
    if names or isinstance(source, str | Path):
        stream = _parts_of_files(names, column, notes)
    else:
        stream = _parts_of_texts(source)
    blank = True
    for part in stream:
        blank = blank and not part.text.strip()
        yield part
    if blank:
        what = f"The corpus {', '.join(names)}" if names else "The list of texts"
        raise WorkbenchError(f"{what} is empty; give something with text in it.")


def _parts_of_texts(texts: Iterable[str | Path]) -> Iterator[Part]:
    """Each text of a list as a part and a document of its own."""
    try:
        numbered = enumerate(texts)
    except TypeError:
        raise WorkbenchError(
            f"A value of type {type(texts).__name__} cannot be scanned; give a file or a list of "
            "texts."
        ) from None
    for number, text in numbered:
        if not isinstance(text, str):
            raise WorkbenchError(
                f"Item {number} of the list is a {type(text).__name__} and not a text; convert it "
                "with str, or give a list of paths alone."
            )
        yield Part(text, begins=True, separate=True, source="texts")


def _parts_of_files(names: list[str], column: str, notes: Notes) -> Iterator[Part]:
    """The parts of files and sets; a row of a table is a document, a plain file may hold many."""
    for source, is_document, chunks in streams(names, column=column, notes=notes):
        if is_document:
            first = True
            for chunk in chunks:
                yield Part(chunk, begins=first, separate=first, source=source)
                first = False
        else:
            yield from _parts_of_plain_text(chunks, source)


def _parts_of_plain_text(chunks: Iterable[str], source: str) -> Iterator[Part]:
    """A plain text, cut where documents begin; its parts are not separate from each other."""
    first = True
    begins = True
    length = 0  # characters of the current document so far
    for chunk in chunks:
        at = 0
        for stop, ended in _document_ends(chunk, DOCUMENT - length):
            yield Part(chunk[at:stop], begins=begins, separate=first, source=source)
            first = False
            begins = ended
            length = 0 if ended else length + stop - at
            at = stop


def _document_ends(chunk: str, room: int) -> Iterator[tuple[int, bool]]:
    """Each place where a document ends, with True; last the chunk's end, True if one ends there.

    Args:
        chunk: A part of a text.
        room: How many characters are still missing until a blank line may end the first document.
    """
    marks = [match.end() for match in _MARK.finditer(chunk)]
    at = 0
    earliest = max(0, room)
    for stop in [*marks, len(chunk)]:
        while (blank := _BLANK.search(chunk, earliest, stop)) and blank.end() < stop:
            at = blank.end()
            yield at, True
            earliest = at + DOCUMENT
        if stop > at:
            at = stop
            yield stop, stop in marks
        earliest = at + DOCUMENT
