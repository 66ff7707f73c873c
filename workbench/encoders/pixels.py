"""Pictures as input of a vision transformer: converted, scaled and normalised as its files say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from workbench.data.digits import LEVELS
from workbench.errors import WorkbenchError
from workbench.pictures.files import picture_file
from workbench.pictures.palette import one
from workbench.pictures.reading import read_picture
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_load import PREPROCESSOR

WHITE = 255
"""The brightest level of a picture; of digits the darkest ink."""


@dataclass(frozen=True)
class Scaling:
    """How pixels become numbers: `(pixel * factor - mean) / std`, by channel.

    - `size`: rows and columns that the model reads
    - `resample`: Pillow's number of the way to scale
    """

    size: tuple[int, int]
    channels: int
    resample: int
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def values(self, image: Image.Image) -> Float[Tensor, "channel row column"]:
        """A picture of the right size and mode as input."""
        pixels = np.asarray(image, np.float64).reshape(*self.size, self.channels)
        scaled = (pixels * self.factor - np.array(self.mean)) / np.array(self.std)
        return torch.from_numpy(scaled.transpose(2, 0, 1).astype(np.float32))


def scaling(encoder: Encoder) -> Scaling:
    """What a model's `preprocessor_config.json` says.

    Raises:
        WorkbenchError: It says something that is not known here, or another size than the model's.
    """
    channels, *rows_columns = encoder.family.shape(encoder.model.config)
    size = (rows_columns[0], rows_columns[1])
    stated = encoder.settings
    given = stated.get("size", {"height": size[0], "width": size[1]})
    if isinstance(given, int):
        given = {"height": given, "width": given}
    resizes = stated.get("do_resize", True)
    if resizes and (given.get("height"), given.get("width")) != size:
        raise WorkbenchError(
            f"{PREPROCESSOR} of {encoder.name} scales pictures to {given}, and the model reads "
            f"{size[0]} by {size[1]}; correct one of the two."
        )
    if stated.get("do_center_crop"):
        raise WorkbenchError(
            f"{PREPROCESSOR} of {encoder.name} crops pictures, which is not known here; set "
            "do_center_crop to false, and crop them before."
        )
    rescales = stated.get("do_rescale", True)
    normalises = stated.get("do_normalize", True)
    factor = _number(encoder, "rescale_factor", 1 / WHITE) if rescales else 1.0
    mean = _channels(encoder, "image_mean", 0.5, channels) if normalises else (0.0,) * channels
    std = _channels(encoder, "image_std", 0.5, channels) if normalises else (1.0,) * channels
    resample = int(_number(encoder, "resample", Image.Resampling.BILINEAR))
    if 0 in std or resample not in range(6) or channels not in (1, 3):
        raise WorkbenchError(
            f"{PREPROCESSOR} of {encoder.name} has an image_std of 0, a way to resample that "
            f"Pillow has not ({resample}), or the model reads {channels} channels; only 1 and 3 "
            "are known."
        )
    return Scaling(size, channels, resample, factor, mean, std)


def _number(encoder: Encoder, word: str, default: float) -> float:
    value: Any = encoder.settings.get(word, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise WorkbenchError(
            f"{PREPROCESSOR} of {encoder.name}: {word} is {value!r}, which is no number; correct "
            "it."
        )
    return float(value)


def _channels(encoder: Encoder, word: str, default: float, channels: int) -> tuple[float, ...]:
    """A setting with a number a channel."""
    given: Any = encoder.settings.get(word, [default] * channels)
    values = given if isinstance(given, list) else [given] * channels
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if len(values) != channels or not numbers or not np.isfinite(values).all():
        raise WorkbenchError(
            f"{PREPROCESSOR} of {encoder.name}: {word} is {given!r}; give {channels} numbers, one "
            "a channel."
        )
    return tuple(map(float, values))


def picture_of(encoder: Encoder, source: Any) -> tuple[Image.Image, str, list[str]]:
    """A picture in the size and mode that a model reads, its name, and what was changed.

    Args:
        encoder: A model of pictures.
        source: A path or bytes of a PNG or JPEG file; an array of grey levels 0 to 16 for a model
            of digits, else of bytes `[row, column]` or `[row, column, 3]`.

    Raises:
        WorkbenchError: It is no picture.
    """
    how = scaling(encoder)
    if encoder.reads_digits:
        return _digit(source)
    if isinstance(source, np.ndarray):
        stored = _of_array(source)
        name = "array"
    else:
        stored, name = picture_file(source, ("PNG", "JPEG"))
    mode = "L" if how.channels == 1 else "RGB"
    remarks = []
    if stored.mode != mode:
        remarks.append(f"Converted from {stored.mode} to {mode}.")
        stored = _converted(stored, mode)
    if stored.size != how.size[::-1]:
        width, height = stored.size
        remarks.append(f"Scaled from {width} by {height} to {how.size[1]} by {how.size[0]} pixels.")
        stored = stored.resize((how.size[1], how.size[0]), Image.Resampling(how.resample))
    return stored, name, remarks


def _digit(source: Any) -> tuple[Image.Image, str, list[str]]:
    """Grey levels or a file as the 8 by 8 pixels of a digit, ink bright."""
    remarks: list[str] = []
    name = "digit"
    if not isinstance(source, np.ndarray):
        read = read_picture(source)
        remarks = read.remarks
        name = "picture" if isinstance(source, bytes) else Path(source).name
        source = read.image
    levels = one(source) / (LEVELS - 1)
    return Image.fromarray(np.rint(levels * WHITE).astype(np.uint8)), name, remarks


def _of_array(given: np.ndarray) -> Image.Image:
    if given.dtype != np.uint8 or given.ndim not in (2, 3) or given.shape[2:] not in ((), (3,)):
        raise WorkbenchError(
            f"The picture is an array of {given.dtype} and of the shape {given.shape}; give bytes "
            "(uint8) [row, column] or [row, column, 3], or a file."
        )
    if not 0 < given.size <= 12_000_000:
        raise WorkbenchError(f"The picture has {given.size:,} numbers; give 1 to 12,000,000.")
    return Image.fromarray(given)


def _converted(stored: Image.Image, mode: str) -> Image.Image:
    """A picture in another mode; transparent parts become white, 16 bits become 8."""
    if stored.mode.startswith("I"):
        wide = np.asarray(stored, float).clip(0, 65535) / 65535 * WHITE
        return Image.fromarray(np.rint(wide).astype(np.uint8)).convert(mode)
    if stored.mode in ("RGBA", "LA", "PA") or "transparency" in stored.info:
        coloured = stored.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert(mode)
    return stored.convert(mode)
