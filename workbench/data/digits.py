"""scikit-learn's handwritten digits (8 by 8 pixels, 17 grey levels), and pictures as text.

A picture is a text of 65 words: its class, `d0` to `d9`, then the grey levels of its pixels, `p0`
to `p16`, in reading order. The images are the test set of UCI's "Optical Recognition of Handwritten
Digits" (Alpaydin and Kaynak 1998), which scikit-learn brings along: 1,797 images by 13 writers,
each of whom wrote many, so that a writer's images are in both parts.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from workbench.errors import WorkbenchError
from workbench.public import public
from workbench.records import Record

if TYPE_CHECKING:
    import pandas as pd

SIDE = 8
"""Pixels across and down."""
PIXELS = SIDE * SIDE
LEVELS = 17
"""Grey levels of a pixel: 0 is paper, 16 is ink."""
CLASSES = tuple(f"d{digit}" for digit in range(10))
"""The word of each class."""
GREYS = tuple(f"p{level}" for level in range(LEVELS))
"""The word of each grey level."""
PARTS = ("train", "test")
TESTED = 0.2
"""Expected share of the images that no model may train on."""


@dataclass(frozen=True)
class Digits(Record):
    """Images of handwritten digits with their classes.

    - `images`: grey levels from 0 (paper) to 16 (ink)
    - `labels`: the digit that each image shows
    - `number`: place of each image in scikit-learn's order
    - `n`: number of images
    """

    part: str
    images: Int[np.ndarray, "image row column"]
    labels: Int[np.ndarray, " image"]
    number: Int[np.ndarray, " image"]
    n: int

    def headline(self) -> str:
        """The result in a few words."""
        return f"{self.n} images of digits, the part {self.part}"

    def to_frame(self) -> "pd.DataFrame":
        """One row per image: its number, its digit, and its 64 grey levels."""
        import pandas as pd

        pixels = pd.DataFrame(
            self.images.reshape(self.n, PIXELS), columns=[f"pixel_{i}" for i in range(PIXELS)]
        )
        named = pd.DataFrame({"number": self.number, "digit": self.labels})
        return pd.concat([named, pixels], axis=1)


@public()
def digits(part: str = "test") -> Digits:
    """scikit-learn's images of handwritten digits, of one part.

    The hash of an image's pixels decides its part, so that equal images are in the same one. The
    corpus `digits` of recipes has the part `train` alone: no model trained here saw the other.

    Args:
        part: "train" (about four fifths) or "test".

    Raises:
        WorkbenchError: For another part.
    """
    if part not in PARTS:
        raise WorkbenchError(f"There is no part {part!r} of the digits; choose train or test.")
    images, labels = _all()
    tested = np.array([_tested(image) for image in images])
    number = np.flatnonzero(tested == (part == "test"))
    return Digits(part, images[number], labels[number], number, len(number))


@cache
def _all() -> tuple[Int[np.ndarray, "image row column"], Int[np.ndarray, " image"]]:
    """All images and their labels."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()  # scikit-learn's own types say a tuple
    return bunch.images.astype(np.int64), bunch.target.astype(np.int64)


def _tested(image: Int[np.ndarray, "row column"]) -> bool:
    """Whether an image belongs to the part that no model trains on."""
    digest = hashlib.sha256(image.astype(np.uint8).tobytes()).digest()
    return int.from_bytes(digest[:4], "big") < TESTED * 2**32


def texts() -> list[str]:
    """The training part as texts: the corpus `digits` of recipes."""
    given = digits("train")
    return [
        text_of(image, int(label)) for image, label in zip(given.images, given.labels, strict=True)
    ]


def text_of(image: Int[np.ndarray, "row column"], digit: int) -> str:
    """A picture with its class as a text of 65 words.

    Args:
        image: Grey levels.
        digit: The class that the text states.
    """
    return " ".join([CLASSES[digit], *(GREYS[level] for level in image.ravel().tolist())])
