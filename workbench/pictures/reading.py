"""Any PNG as a picture that the model can read: grey, 8 by 8 pixels, 17 levels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from PIL import Image

from workbench.data.digits import LEVELS, PIXELS, SIDE
from workbench.errors import WorkbenchError
from workbench.pictures.files import picture_file
from workbench.public import public
from workbench.records import Record

FAINT = 0.1
"""Ink is what is darker than this share of the darkest pixel."""


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
    stored, name = picture_file(source)
    mode = stored.mode
    grey = _shades(stored)
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
