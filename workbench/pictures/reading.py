"""Any PNG as a picture that the model can read: grey, 8 by 8 pixels, 17 levels."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from PIL import Image, UnidentifiedImageError

from workbench.data.digits import LEVELS, PIXELS, SIDE
from workbench.doors import UnreadableError, path_of, reading
from workbench.errors import WorkbenchError
from workbench.public import public
from workbench.records import Record

LARGEST = 5_000_000
"""Largest file in bytes."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_PIXELS = 4_000_000
"""Most pixels of a file, which are looked up in its header before anything is decoded."""
FAINT = 0.1
"""Ink is what is darker than this share of the darkest pixel."""
MEND = "give a PNG that an image viewer can open"


@dataclass(frozen=True)
class Picture(Record):
    """A picture read from a file.

    - `image`: grey levels, 0 (paper) to 16 (ink)
    - `remarks`: what was changed, one sentence each
    """

    image: Int[np.ndarray, "row column"]
    remarks: list[str]

    def headline(self) -> str:
        """The result in a few words."""
        return " ".join(self.remarks) or f"{SIDE} by {SIDE} pixels, unchanged"

    def to_frame(self) -> pd.DataFrame:
        """One row per pixel."""
        row, column = np.divmod(np.arange(PIXELS), SIDE)
        return pd.DataFrame({"row": row, "column": column, "level": self.image.ravel()})


@public()
def read_picture(source: str | Path | bytes) -> Picture:
    """A PNG file as grey levels of 8 by 8 pixels.

    Transparent parts are paper. Paper may be light or dark: it is the shade of the outer pixels. Of
    a file with more or fewer than 8 by 8 pixels the ink is cut out, scaled to 8 rows (or 8 columns
    where it is wider than high) and centred, as the digits of the training set are.

    Args:
        source: A path, or the bytes of a file.

    Raises:
        WorkbenchError: It is no PNG, is damaged or too large, or shows a single shade.
    """
    content, name = _content(source)
    if len(content) > LARGEST:
        raise WorkbenchError(
            f"{name} has {len(content):,} bytes; a picture may have {LARGEST:,}: scale it down."
        )
    grey, mode = _decoded(content, name)
    paper = float(np.median(np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])))
    ink = np.abs(grey - paper)
    if ink.max() < 1 / LEVELS:
        raise WorkbenchError(f"{name} shows a single shade; give a picture with a digit on it.")
    remarks = []
    if mode not in ("L", "1"):
        remarks.append(f"Converted from {mode} to grey.")
    if paper < 0.5:
        remarks.append("Light on dark, so the shades are turned round.")
    if grey.shape != (SIDE, SIDE):
        height, width = grey.shape
        remarks.append(
            f"Cut out of {width} by {height} pixels, scaled to {SIDE} by {SIDE} and centred."
        )
        ink = _fitted(ink)
    levels = np.rint(ink / ink.max() * (LEVELS - 1)).astype(np.int64)
    return Picture(levels, remarks)


def _content(source: str | Path | bytes) -> tuple[bytes, str]:
    """The bytes of a file and what messages call it; no more bytes than are needed to refuse it."""
    if isinstance(source, bytes):
        return source, "The picture"
    path = path_of(source, "picture")
    with reading(path, "give the path of a PNG file"), path.open("rb") as file:
        return file.read(LARGEST + 1), path.name


def _decoded(content: bytes, name: str) -> tuple[Float[np.ndarray, "row column"], str]:
    """The shades of a PNG, 0 (black) to 1 (white), and the mode that it is stored in."""
    if not content.startswith(SIGNATURE):
        raise WorkbenchError(f"{name} is no PNG file; {MEND}.")
    if len(content) < len(SIGNATURE) + 16:
        raise WorkbenchError(f"{name} is a damaged PNG (it ends in its header); {MEND}.")
    width, height = struct.unpack(">II", content[16:24])  # the first fields of the first chunk
    if width * height > MOST_PIXELS:
        raise WorkbenchError(
            f"{name} has {width:,} by {height:,} pixels, more than the {MOST_PIXELS:,} that are "
            "read; scale it down."
        )
    try:
        with (
            reading(name, MEND, "is a damaged PNG"),
            Image.open(io.BytesIO(content), formats=["PNG"]) as stored,
        ):
            stored.load()
            return _shades(stored), stored.mode
    except UnreadableError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):  # whose words are Python's own
            raise WorkbenchError(f"{name} is a damaged PNG (its first parts); {MEND}.") from error
        raise


def _shades(stored: Image.Image) -> Float[np.ndarray, "row column"]:
    """The shades of an image in any mode of a PNG, on white where it is transparent."""
    if stored.mode.startswith("I"):  # 16 bits, which "L" would cut off at 255
        return np.asarray(stored, float).clip(0, 65535) / 65535
    coloured = stored.convert("RGBA")
    white = Image.new("RGBA", coloured.size, "white")
    return np.asarray(Image.alpha_composite(white, coloured).convert("L"), float) / 255


def _fitted(ink: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "8 8"]:
    """The inked part of a picture, scaled into 8 by 8 and centred."""
    rows, columns = np.nonzero(ink > FAINT * ink.max())
    cut = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = SIDE / max(cut.shape)
    height, width = (max(1, round(scale * size)) for size in cut.shape)
    small = Image.fromarray(cut.astype(np.float32)).resize(
        (width, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    )
    fitted = np.zeros((SIDE, SIDE))
    top = (SIDE - height) // 2
    left = (SIDE - width) // 2
    fitted[top : top + height, left : left + width] = np.asarray(small)
    return fitted
