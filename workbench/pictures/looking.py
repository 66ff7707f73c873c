"""Attention on a picture: from one pixel to the class token and the pixels before it."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from workbench.data.digits import PIXELS, SIDE, text_of
from workbench.errors import WorkbenchError
from workbench.interp import attention
from workbench.modes import own_modes
from workbench.pictures.palette import checked_digit, one, palette
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName


@dataclass(frozen=True)
class PictureAttention(Record):
    """The attention of every head on one picture.

    Position 0 is the class token, position `1 + i` holds pixel `i` in reading order. A pixel sees
    the class, itself and the pixels before it, and from them the next pixel is predicted.

    - `image`: grey levels; `digit`: the class stated before it
    - `pattern`: rows (queries) sum to 1 over keys
    """

    subject: str
    sha256: str
    image: Int[np.ndarray, "row column"]
    digit: int
    pattern: Float[np.ndarray, "layer head query key"]

    def headline(self) -> str:
        """The result in a few words."""
        n_layers, n_heads = self.pattern.shape[:2]
        return f"{n_layers} layers of {n_heads} heads on a picture of {self.digit}"

    def on_picture(self, layer: int, head: int, pixel: int) -> Float[np.ndarray, "row column"]:
        """Attention from a pixel to each pixel; NaN for later ones, which it cannot see.

        Raises:
            WorkbenchError: There is no such head or pixel.
        """
        row = self._from(layer, head, pixel)[1:].astype(float)
        row[pixel + 1 :] = np.nan
        return row.reshape(SIDE, SIDE)

    def on_class(self, layer: int, head: int, pixel: int) -> float:
        """Attention from a pixel to the class token: what `on_picture` lacks to sum to 1.

        Raises:
            WorkbenchError: There is no such head or pixel.
        """
        return float(self._from(layer, head, pixel)[0])

    def _from(self, layer: int, head: int, pixel: int) -> Float[np.ndarray, " key"]:
        n_layers, n_heads = self.pattern.shape[:2]
        if not (0 <= layer < n_layers and 0 <= head < n_heads and 0 <= pixel < PIXELS):
            raise WorkbenchError(
                f"There is no pixel {pixel} of L{layer}H{head}: the heads are L0H0 to "
                f"L{n_layers - 1}H{n_heads - 1}, the pixels 0 to {PIXELS - 1}."
            )
        return self.pattern[layer, head, pixel + 1]

    def to_frame(self) -> pd.DataFrame:
        """One row per head, pixel and what it sees: `key` is a pixel, or -1 for the class."""
        from_pixels = self.pattern[:, :, 1:]  # [layer, head, pixel, key]
        seen = np.tri(PIXELS, PIXELS + 1, 1, dtype=bool)
        layer, head, pixel, key = np.nonzero(np.broadcast_to(seen, from_pixels.shape))
        return pd.DataFrame(
            {
                "layer": layer,
                "head": head,
                "pixel": pixel,
                "key": key - 1,
                "attention": from_pixels[layer, head, pixel, key],
            }
        )


@public("subject")
@own_modes
def picture_attention(subject: SubjectOrName, image: np.ndarray, digit: int) -> PictureAttention:
    """The attention of all heads while a model reads a picture.

    Args:
        subject: A model of pictures.
        image: Grey levels 0 to 16, `[row, column]`.
        digit: The class to state before the pixels.

    Raises:
        WorkbenchError: The model reads no pictures, or the image is none.
    """
    subject = cast(Subject, subject)
    palette(subject)
    picture = one(image)
    digit = checked_digit(digit)
    seen = attention(subject, text_of(picture, digit))
    return PictureAttention(subject.name, subject.hash, picture, digit, np.asarray(seen.pattern))
