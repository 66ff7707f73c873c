"""Which token ids a model reads as classes and grey levels, and pictures as rows of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.data.digits import CLASSES, GREYS, LEVELS, PIXELS, SIDE
from workbench.errors import WorkbenchError
from workbench.subjects import Subject, available


class Palette(NamedTuple):
    """Token ids of the ten classes and the 17 grey levels."""

    classes: tuple[int, ...]
    greys: tuple[int, ...]


def palette(subject: Subject) -> Palette:
    """The token ids of a model of pictures.

    Raises:
        WorkbenchError: Its vocabulary lacks one of them, or its context is too short for a picture.
    """
    tokenizer: Any = subject.tokenizer
    words = [*CLASSES, *GREYS]
    ids = cast(list[int | None], tokenizer.convert_tokens_to_ids(words))
    known = [i for i in ids if i is not None and i != tokenizer.unk_token_id]
    if len(set(known)) < len(words):
        raise WorkbenchError(
            f"{subject.name} does not read pictures: its vocabulary lacks tokens of d0 to d9 and "
            "p0 to p16; choose shelf-digits or a model trained by its recipe."
        )
    if subject.n_ctx < PIXELS + 1:
        raise WorkbenchError(
            f"{subject.name} has a context of {subject.n_ctx} tokens, and a picture with its class "
            f"takes {PIXELS + 1}; choose another model."
        )
    return Palette(tuple(known[: len(CLASSES)]), tuple(known[len(CLASSES) :]))


def rows_of(
    subject: Subject, images: Int[np.ndarray, "image row column"], digits: Sequence[int]
) -> Int[Tensor, "image pos"]:
    """Pictures as token ids on the model's device: the class, then 64 pixels in reading order.

    Args:
        subject: A model of pictures.
        images: Grey levels.
        digits: The class that is stated of each image.
    """
    ids = palette(subject)
    classes = torch.tensor(ids.classes)[list(digits)]
    greys = torch.tensor(ids.greys)[torch.from_numpy(images.reshape(len(images), PIXELS))]
    return torch.cat([classes[:, None], greys], dim=1).to(subject.device)


def checked(images: Any) -> Int[np.ndarray, "image row column"]:
    """Images as whole numbers `[image, row, column]`; a single image becomes one of one.

    Raises:
        WorkbenchError: They have another shape, or a grey level that is no whole number from 0 to
            16.
    """
    given = np.asarray(images)
    stack = given[None] if given.ndim == 2 else given
    if stack.ndim != 3 or stack.shape[1:] != (SIDE, SIDE) or not len(stack):
        raise WorkbenchError(
            f"The image has the shape {' by '.join(map(str, given.shape)) or 'of one number'}; "
            f"give {SIDE} by {SIDE} grey levels, or read a file with read_picture."
        )
    whole = stack.dtype.kind in "iuf" and bool((stack == np.floor(stack)).all())
    if not whole or stack.min() < 0 or stack.max() >= LEVELS:
        raise WorkbenchError(
            f"A grey level is a whole number from 0 (paper) to {LEVELS - 1} (ink), and the image "
            "has others; read_picture scales a file to them."
        )
    return stack.astype(np.int64)


def one(image: Any) -> Int[np.ndarray, "row column"]:
    """A single image, checked as by `checked`."""
    return checked(image)[0]


def checked_digit(digit: int) -> int:
    """The digit. Raises `WorkbenchError` for anything but a whole number from 0 to 9."""
    if isinstance(digit, bool) or digit not in range(len(CLASSES)):
        raise WorkbenchError(f"{digit!r} is no class of pictures; give a digit from 0 to 9.")
    return int(digit)


def picture_models() -> list[str]:
    """Names of the models on this machine that read pictures, by the words in their tokenizers."""
    return [
        entry.name
        for entry in available()
        if entry.path.is_dir() and _reads_pictures(entry.path / "tokenizer.json")
    ]


LARGEST = 100_000
"""The largest `tokenizer.json` in bytes that is searched: that of pictures has 27 words."""


def _reads_pictures(path: Any) -> bool:
    """Whether a `tokenizer.json` has the words of pictures."""
    try:
        if path.stat().st_size > LARGEST:
            return False
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return all(f'"{word}"' in text for word in (*CLASSES, *GREYS))
