"""A signal: one picture or sound, ready for a model, with what is drawn of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.figures.patches import Canvas
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_families import Grid


@dataclass(frozen=True)
class Signal:
    """One picture or sound.

    - `values`: the model's input without a batch axis
    - `blank`: the input of an empty picture, or of silence
    - `grid`: the patches
    - `remarks`: what was changed on reading, one sentence each
    - `key`: tells it from all others
    """

    name: str
    values: Float[Tensor, "*input"]
    blank: Float[Tensor, "*input"]
    canvas: Canvas
    grid: Grid
    remarks: tuple[str, ...] = ()
    key: str = ""


Source = Signal | np.ndarray | str | Path | bytes
"""What a function reads: a file by path, its bytes, an array, or a Signal."""


def position_names(encoder: Encoder, grid: Grid) -> list[str]:
    """The name of every position: special tokens, then patches by row and column.

    Of sounds a row is a band of frequencies and a column a time; HuBERT has frames alone.
    """
    special = list(encoder.family.special)
    if grid.rows == 1 and encoder.modality == "sound":
        return [*special, *(f"frame {i}" for i in range(grid.columns))]
    letters = ("f", "t") if encoder.modality == "sound" else ("r", "c")
    patches = [
        f"{letters[0]}{row} {letters[1]}{column}"
        for row in range(grid.rows)
        for column in range(grid.columns)
    ]
    return [*special, *patches]
