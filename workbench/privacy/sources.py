"""What is scanned, as a stream of parts: texts that a program has, or files, tables and sets that
the one reader of corpora opens.
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
"""A file, folder, Hugging Face id or `generated` as a text or a path; a list of paths; or texts."""
_MARK = re.compile(re.escape(END))
_BLANK = re.compile(r"\n[ \t]*\n\s*")


def named(source: Source) -> list[str]:
    """The names of files and sets that are meant; [] where the texts themselves are given.

    A single text or path names a source, and so does a list of paths; a list of texts is scanned
    itself.
    """
    if isinstance(source, str | Path):
        return [str(source)]
    if isinstance(source, list | tuple) and source and all(isinstance(s, Path) for s in source):
        return [str(path) for path in source]
    return []


def parts_of(source: Source, column: str, notes: Notes) -> Iterator[Part]:
    """The parts of a source.

    A document is a row of a table or a text of a list. A plain file is cut as training cuts it: at
    the mark that ends a text, or at the first blank line after about 2,000 characters.

    Args:
        source: See `Source`.
        column: Of tables that holds the text; "" for the usual names.
        notes: Where the reader says what it assumed.

    Raises:
        WorkbenchError: For a source that cannot be read, for what is no text, and for a corpus
            without any text.
    """
    names, blank = named(source), True
    stream = _of_files(names, column, notes) if names else _of_texts(source)
    for part in stream:
        blank = blank and not part.text.strip()
        yield part
    if blank:
        what = f"The corpus {', '.join(names)}" if names else "The list of texts"
        raise WorkbenchError(f"{what} is empty; give something with text in it.")


def _of_texts(texts: Iterable[str | Path]) -> Iterator[Part]:
    try:
        several = enumerate(texts)
    except TypeError:
        raise WorkbenchError(
            f"A {type(texts).__name__} cannot be scanned; give a file or a list of texts."
        ) from None
    for number, text in several:
        if not isinstance(text, str):
            raise WorkbenchError(
                f"Text {number} of the list is a {type(text).__name__}, no text; convert it with "
                "str, or name files by paths alone."
            )
        yield Part(text, begins=True, apart=True, source="texts")


def _of_files(names: list[str], column: str, notes: Notes) -> Iterator[Part]:
    for source, whole, chunks in streams(names, column=column, notes=notes):
        if whole:
            first = True
            for chunk in chunks:
                yield Part(chunk, begins=first, apart=first, source=source)
                first = False
        else:
            yield from _documents(chunks, source)


def _documents(chunks: Iterable[str], source: str) -> Iterator[Part]:
    """A plain text with the places marked where a document begins; all of it is one stream."""
    first = begins = True
    length = 0
    for chunk in chunks:
        at = 0
        for stop, ended in _ends(chunk, DOCUMENT - length):
            yield Part(chunk[at:stop], begins=begins, apart=first, source=source)
            first, begins = False, ended
            length = 0 if ended else length + stop - at
            at = stop


def _ends(chunk: str, room: int) -> Iterator[tuple[int, bool]]:
    """Where documents end in a chunk, and its own end with whether a document ends there too.

    Args:
        chunk: A part of a text.
        room: Characters before which no blank line ends the first document.
    """
    marks = [match.end() for match in _MARK.finditer(chunk)]
    at, earliest = 0, max(0, room)
    for stop in [*marks, len(chunk)]:
        while (blank := _BLANK.search(chunk, earliest, stop)) and blank.end() < stop:
            at = blank.end()
            yield at, True
            earliest = at + DOCUMENT
        if stop > at:
            at = stop
            yield stop, stop in marks
        earliest = at + DOCUMENT
