"""A corpus written to a file with placeholders for personal data and secrets."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench.data.notes import Notes
from workbench.doors import path_of, writing
from workbench.privacy.kinds import chosen_kinds
from workbench.privacy.sources import Source, parts_of
from workbench.privacy.stream import SEPARATOR, rewritten


def write_redacted(
    source: Source, out: str | Path, kinds: Sequence[str] | None = None, *, column: str = ""
) -> Path:
    """The file to which the redacted corpus was written, complete or not at all.

    A file named .jsonl gets one record {"text": ...} for each text. Any other file gets the texts
    themselves, each beginning on a new line.

    Args:
        source: What to redact, as for `workbench.scan`.
        out: The file to write; it may be the one that is read.
        kinds: Names of the kinds to replace; None for all.
        column: The column of a table that holds the text; "" for the usual names.

    Raises:
        WorkbenchError: For an unknown kind, a source that cannot be read, an empty corpus, and
            where the file cannot be written.
    """
    path = path_of(out, "file")
    selected = chosen_kinds(kinds)
    stream = rewritten(parts_of(source, column, Notes()), selected)
    with (
        writing(path) as part,
        part.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        pieces = _records(stream) if path.suffix.lower() == ".jsonl" else _lines(stream)
        for piece in pieces:
            file.write(piece)
    return path


def _records(stream: Iterator[str]) -> Iterator[str]:
    """One record for each text of a stream in which `SEPARATOR` stands between texts."""
    unfinished: list[str] = []
    for piece in stream:
        *ends, rest = piece.split(SEPARATOR)
        for end in ends:
            yield _record("".join([*unfinished, end]))
            unfinished = []
        unfinished.append(rest)
    yield _record("".join(unfinished))


def _record(text: str) -> str:
    return json.dumps({"text": text}, ensure_ascii=False) + "\n"


def _lines(stream: Iterator[str]) -> Iterator[str]:
    """The stream with each `SEPARATOR` replaced by a line break, where there is none yet."""
    last = "\n"
    for piece in stream:
        for number, text in enumerate(piece.split(SEPARATOR)):
            if number and last != "\n":
                yield "\n"
                last = "\n"
            if text:
                yield text
                last = text[-1]
