"""A corpus written anew, with placeholders for personal data and secrets."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench.data.notes import Notes
from workbench.doors import path_of, writing
from workbench.privacy.kinds import chosen_kinds
from workbench.privacy.sources import Source, parts_of
from workbench.privacy.stream import APART, rewritten


def write_redacted(
    source: Source, out: str | Path, kinds: Sequence[str] | None = None, *, column: str = ""
) -> Path:
    """The file that the redacted corpus was written to, whole or not at all.

    A name that ends in .jsonl gets a record {"text": ...} for each text; any other the texts as
    they stand, each beginning a line.

    Args:
        source: As for `scan`.
        out: The file; it may be the one that is read.
        kinds: As for `scan`.
        column: As for `scan`.

    Raises:
        WorkbenchError: As `scan`, and where the file cannot be written.
    """
    path, wanted = path_of(out, "file"), chosen_kinds(kinds)
    stream = rewritten(parts_of(source, column, Notes()), wanted)
    with (
        writing(path) as part,
        part.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        pieces = _records(stream) if path.suffix.lower() == ".jsonl" else _lines(stream)
        for piece in pieces:
            file.write(piece)
    return path


def _records(stream: Iterator[str]) -> Iterator[str]:
    held: list[str] = []
    for piece in stream:
        *whole, rest = piece.split(APART)
        for text in whole:
            yield _record("".join([*held, text]))
            held = []
        held.append(rest)
    yield _record("".join(held))


def _record(text: str) -> str:
    return json.dumps({"text": text}, ensure_ascii=False) + "\n"


def _lines(stream: Iterator[str]) -> Iterator[str]:
    last = "\n"
    for piece in stream:
        for number, text in enumerate(piece.split(APART)):
            if number and last != "\n":
                yield "\n"
                last = "\n"
            if text:
                yield text
                last = text[-1]
