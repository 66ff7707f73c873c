"""Anything that a model sees or hears, as a Signal: files, arrays, bytes."""

import hashlib
from typing import Any

import numpy as np
import torch
from PIL import Image

from workbench.encoders.hearing import FRAME, drawn, heard, rate_of, spectral_values, wave_values
from workbench.encoders.pixels import WHITE, picture_of, scaling
from workbench.encoders.signals import Signal, Source
from workbench.encoders.waves import Wave
from workbench.errors import WorkbenchError
from workbench.figures.patches import Canvas
from workbench.modes import own_modes
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_families import Grid


@own_modes
def read_signal(encoder: Encoder, source: Source) -> Signal:
    """One picture or sound as the model's input, with what is drawn of it.

    Args:
        encoder: The model.
        source: Of a model of pictures a PNG or JPEG (path or bytes), or an array: 8 by 8 grey
            levels 0 to 16 for a model of digits, else bytes `[row, column]` or
            `[row, column, 3]`. Of a model of sounds a WAV (path or bytes), or samples from -1 to 1
            at its rate. A Signal is returned as it is.

    Raises:
        WorkbenchError: It cannot be read; the message says what to give.
    """
    if isinstance(source, Signal):
        return source
    if not isinstance(source, np.ndarray | str | bytes) and not hasattr(source, "__fspath__"):
        raise WorkbenchError(
            f"A {type(source).__name__} is no {encoder.modality}; give a file or an array."
        )
    return _seen(encoder, source) if encoder.modality == "picture" else _listened(encoder, source)


def _seen(encoder: Encoder, source: Any) -> Signal:
    image, name, remarks = picture_of(encoder, source)
    how = scaling(encoder)
    values = how.values(image)
    # An empty picture: paper for digits, else the colour that is normalised to 0.
    paper = Image.fromarray(np.zeros(how.size, np.uint8))
    blank = how.values(paper) if encoder.reads_digits else torch.zeros_like(values)
    grid = encoder.grid(values)
    canvas = Canvas(
        np.asarray(image, np.float64) / WHITE,
        ((grid.size[0] - 1) / 2, (grid.size[1] - 1) / 2),
        (float(grid.step[0]), float(grid.step[1])),
        inked=encoder.reads_digits,
    )
    return _signal(name, values, blank, canvas, grid, remarks)


def _listened(encoder: Encoder, source: Any) -> Signal:
    wave = heard(encoder, source)
    silence = Wave(np.zeros_like(wave.samples), "silence", [])
    if encoder.model.config.model_type == "hubert":
        values = wave_values(encoder, wave)
        grid = encoder.grid(values)
        picture = drawn(wave, rate_of(encoder))
        step = grid.step[1] / FRAME
        middle = ((picture.shape[0] - 1) / 2, (step - 1) / 2)
        canvas = Canvas(_unit(picture), middle, (float(picture.shape[0]), step), rising=True)
        blank = wave_values(encoder, silence)
        return _signal(wave.name, values, blank, canvas, grid, wave.remarks)
    values, remarks = spectral_values(encoder, wave)
    blank, _ = spectral_values(encoder, silence)
    grid = encoder.grid(values)
    canvas = Canvas(
        _unit(values.numpy().T.astype(np.float64)),
        ((grid.size[0] - 1) / 2, (grid.size[1] - 1) / 2),
        (float(grid.step[0]), float(grid.step[1])),
        rising=True,
    )
    return _signal(wave.name, values, blank, canvas, grid, [*wave.remarks, *remarks])


def _unit(picture: np.ndarray) -> np.ndarray:
    """A picture scaled from 0 to 1."""
    low = float(picture.min())
    return (picture - low) / max(float(picture.max()) - low, 1e-12)


def _signal(
    name: str,
    values: torch.Tensor,
    blank: torch.Tensor,
    canvas: Canvas,
    grid: Grid,
    remarks: list[str],
) -> Signal:
    digest = hashlib.sha256(values.numpy().tobytes()).hexdigest()
    return Signal(name, values, blank, canvas, grid, tuple(remarks), digest)


def stacked(encoder: Encoder, sources: Any) -> tuple[list[Signal], torch.Tensor]:
    """Several signals, and their values as one batch on the CPU.

    Args:
        encoder: The model.
        sources: A list of sources, or an array of pictures `[picture, row, column]`.

    Raises:
        WorkbenchError: One cannot be read, there is none, or sounds differ in length.
    """
    given = list(sources) if isinstance(sources, list | tuple | np.ndarray) else [sources]
    if isinstance(sources, np.ndarray) and _is_one(encoder, sources):
        given = [sources]
    signals = [read_signal(encoder, source) for source in given]
    if not signals:
        raise WorkbenchError(f"There is no {encoder.modality}; give at least one.")
    shapes = {tuple(signal.values.shape) for signal in signals}
    if len(shapes) > 1:
        raise WorkbenchError(
            f"The {encoder.modality}s have {len(shapes)} different lengths, and {encoder.name} "
            "compares them position by position; cut them to one length."
        )
    return signals, torch.stack([signal.values for signal in signals])


def _is_one(encoder: Encoder, given: np.ndarray) -> bool:
    """Whether an array is a single picture or sound and not several."""
    if encoder.modality == "sound":
        return given.ndim == 1
    return given.ndim == 2 or (given.ndim == 3 and given.shape[2] == 3 and not encoder.reads_digits)
