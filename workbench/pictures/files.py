"""Picture files: bounded in size, decoded without surprises, or refused in one sentence."""

import io
import struct
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from workbench.doors import UnreadableError, path_of, reading
from workbench.errors import WorkbenchError

LARGEST = 5_000_000
"""Largest file in bytes."""
SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}
"""How the files of each format begin."""
MOST_PIXELS = 4_000_000
"""Most pixels of a file, which are looked up in its header before anything is decoded."""


def picture_file(
    source: str | Path | bytes, formats: tuple[str, ...] = ("PNG",)
) -> tuple[Image.Image, str]:
    """A decoded picture, and what messages call it.

    Args:
        source: A path, or the bytes of a file.
        formats: Which of `SIGNATURES` are read.

    Raises:
        WorkbenchError: It has another format, is damaged or too large.
    """
    content, name = _content(source, " or ".join(formats))
    if len(content) > LARGEST:
        raise WorkbenchError(
            f"{name} has {len(content):,} bytes; a picture may have {LARGEST:,}: scale it down."
        )
    return _decoded(content, name, formats), name


def _content(source: str | Path | bytes, what: str) -> tuple[bytes, str]:
    """The bytes of a file and what messages call it; no more bytes than are needed to refuse it."""
    if isinstance(source, bytes):
        return source, "The picture"
    path = path_of(source, "picture")
    with reading(path, f"give the path of a {what} file"), path.open("rb") as file:
        return file.read(LARGEST + 1), path.name


def _decoded(content: bytes, name: str, formats: tuple[str, ...]) -> Image.Image:
    """The pixels of a file."""
    mend = f"give a {' or '.join(formats)} that an image viewer can open"
    kind = next((each for each in formats if content.startswith(SIGNATURES[each])), None)
    if kind is None:
        raise WorkbenchError(f"{name} is no {' or '.join(formats)} file; {mend}.")
    if kind == "PNG":
        _check_header(content, name, mend)
    try:
        with (
            reading(name, mend, f"is a damaged {kind}"),
            Image.open(io.BytesIO(content), formats=[kind]) as stored,
        ):
            _check_size(name, *stored.size)
            stored.load()
            return stored
    except UnreadableError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):  # whose words are Python's own
            raise WorkbenchError(
                f"{name} is a damaged {kind} (its first parts); {mend}."
            ) from error
        raise


def _check_header(content: bytes, name: str, mend: str) -> None:
    """Raise `WorkbenchError` for a PNG whose header is cut off or states too many pixels."""
    if len(content) < len(SIGNATURES["PNG"]) + 16:
        raise WorkbenchError(f"{name} is a damaged PNG (it ends in its header); {mend}.")
    _check_size(name, *struct.unpack(">II", content[16:24]))  # the first chunk's first fields


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise WorkbenchError(
            f"{name} has {width:,} by {height:,} pixels, more than the {MOST_PIXELS:,} that are "
            "read; scale it down."
        )
