"""Files that a person hands over: kept under the home folder by their content, and shown before
use.
"""

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
"""Bytes that one upload may have."""


def keep(files: Sequence[tuple[str, bytes]]) -> Path:
    """The path of an uploaded file, or of the folder of several; the same content has the same
    path.

    Args:
        files: Name and content of each.

    Raises:
        WorkbenchError: When there is nothing, or too much.
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
    kept = []
    for number, (name, content) in enumerate(files):
        path = folder / safe_name(name, number, taken=[path.name for path in kept])
        if not path.is_file() or path.stat().st_size != len(content):
            with writing(path) as part:
                part.write_bytes(content)
        kept.append(path)
    return kept[0] if len(kept) == 1 else folder


def safe_name(name: str, number: int = 0, taken: Sequence[str] = ()) -> str:
    """A file name with plain characters only, no folders, not hidden, its ending kept."""
    plain = re.sub(r"[^\w.-]+", "_", Path(name.replace("\\", "/")).name).lstrip("._-")[-80:]
    plain = plain or "upload.txt"
    return f"{number}-{plain}" if plain in taken else plain


@dataclass(frozen=True)
class Preview:
    """The first rows of a file, as a person checks them before they are used.

    - `columns`: of the table; empty where rows have no columns to choose from (CoNLL)
    - `rows`: the first of them
    - `guess`: the column of each part, as far as it can be told
    - `remarks`: what the reader assumed or dropped
    """

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    guess: dict[str, str]
    remarks: list[str]


def look_at(path: Path, parts: Sequence[str]) -> Preview:
    """The first rows of a table, and which column seems to hold each part.

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
    """Whether a file has rows with columns; a folder and a plain text have none."""
    return path.is_file() and bool(format_of(path)) and Path(unpacked_name(path)).suffix != ""
