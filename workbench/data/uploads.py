"""Uploaded files: stored in the home folder by their content, and previewed before use."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import paths
from workbench.data.columns import guess
from workbench.data.files import format_of, preview
from workbench.data.opening import unpacked_name
from workbench.doors import made_folder, writing
from workbench.errors import WorkbenchError

LARGEST_UPLOAD = 500_000_000
"""Largest upload in bytes."""


def keep(files: Sequence[tuple[str, bytes]]) -> Path:
    """Store an upload and return its path: the file, or the folder of several files.

    The same content always gets the same path.

    Args:
        files: Name and content of each file.

    Raises:
        WorkbenchError: When the upload is empty or larger than `LARGEST_UPLOAD`.
    """
    if not files or not any(content for _, content in files):
        raise WorkbenchError("The upload is empty; choose a file with something in it.")
    if sum(len(content) for _, content in files) > LARGEST_UPLOAD:
        megabytes = LARGEST_UPLOAD // 1_000_000
        raise WorkbenchError(
            f"The upload has over {megabytes} MB; give the path of the file instead."
        )
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    folder = paths.home() / "uploads" / digest.hexdigest()[:16]
    made_folder(folder)
    stored: list[Path] = []
    for number, (name, content) in enumerate(files):
        path = folder / safe_name(name, number, taken=[path.name for path in stored])
        if not path.is_file() or path.stat().st_size != len(content):
            with writing(path) as part:
                part.write_bytes(content)
        stored.append(path)
    return stored[0] if len(stored) == 1 else folder


def safe_name(name: str, number: int = 0, taken: Sequence[str] = ()) -> str:
    """A file name of plain characters, without folders, not hidden, with its extension.

    Args:
        name: The name that the browser sent.
        number: Put in front where the name is taken.
        taken: Names of files already stored.
    """
    plain = re.sub(r"[^\w.-]+", "_", Path(name.replace("\\", "/")).name).lstrip("._-")[-80:]
    plain = plain or "upload.txt"
    return f"{number}-{plain}" if plain in taken else plain


@dataclass(frozen=True)
class Preview:
    """The first rows of a file, for the user to check before they are used.

    - `columns`: columns of the table; empty where there is nothing to choose (CoNLL)
    - `rows`: the first rows
    - `guess`: the guessed column of each part
    - `remarks`: what the reader assumed or dropped
    """

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    guess: dict[str, str]
    remarks: list[str]


def look_at(path: Path, parts: Sequence[str]) -> Preview:
    """The first rows of a table, and the guessed column of each part.

    Raises:
        WorkbenchError: When the file cannot be read, or is empty.
    """
    rows, notes = preview(path)
    if not rows:
        raise WorkbenchError(f"{path.name} is empty; give a file with records.")
    columns = tuple(dict.fromkeys(str(column) for row in rows for column in row))
    fixed = format_of(path) in ("conll", "conllu")
    return Preview(() if fixed else columns, rows, guess(parts, rows, {}), notes.lines())


def is_table(path: Path) -> bool:
    """Whether a path is a file of rows with columns, not a folder or plain text."""
    return path.is_file() and bool(format_of(path)) and Path(unpacked_name(path)).suffix != ""
