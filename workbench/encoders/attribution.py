"""What each pixel of a picture, or each part of a sound, adds to a logit difference.

Integrated gradients along the straight line from an empty picture (or silence, or another input),
as for the tokens of a text: the scores add up to the difference of the outputs (completeness).
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.encoders.reading import read_signal
from workbench.encoders.signals import Signal, Source
from workbench.errors import WorkbenchError
from workbench.interp.lenses.inputs import ABSOLUTE, MOST, RELATIVE, integrate
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects.encoder import Encoder, EncoderOrName


@dataclass(frozen=True)
class EncoderAttribution(Record):
    """What each patch adds to a logit difference.

    - `scores`: by patch `[row, column]`; where patches overlap (AST), by cells of their distance.
      With `outside` they add up to `value` minus `start`
    - `pixels`: the same by pixel of what is drawn (mel band by frame); [] for a waveform
    - `outside`: what no patch covers, at the edges of a sound
    - `value`, `start`: the logit difference of the input and of the baseline
    - `gradients`: how many were taken
    - `checks`: `completeness`, what is missing from the sum; `converged`: whether it is at most
      `tolerance`
    """

    subject: str
    sha256: str
    source: str
    baseline: str
    answer: str
    wrong: str
    scores: Float[np.ndarray, "row column"]
    pixels: Float[np.ndarray, "height width"]
    outside: float
    value: float
    start: float
    gradients: int
    checks: dict[str, float]
    tolerance: float
    converged: bool
    values: str

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the input."""
        return {"input": self.values}

    def failed_checks(self) -> list[str]:
        """What did not converge, in words."""
        missing = self.checks["completeness"]
        return [] if self.converged else [f"the scores miss the difference by {missing:.3g}"]

    def headline(self) -> str:
        """The result in a few words."""
        row, column = np.unravel_index(np.abs(self.scores).argmax(), self.scores.shape)
        return (
            f"{self.answer} minus {self.wrong}: {self.start:+.3f} at the baseline, "
            f"{self.value:+.3f} at the input; most from patch r{row} c{column}, "
            f"{self.scores[row, column]:+.3f}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per patch."""
        row, column = np.indices(self.scores.shape).reshape(2, -1)
        return pd.DataFrame({"row": row, "column": column, "score": self.scores.ravel()})


@public("encoder", signals=True)
@own_modes
def encoder_attribution(
    encoder: EncoderOrName,
    source: Source,
    *,
    answer: str | int | None = None,
    wrong: str | int | None = None,
    baseline: Source | None = None,
    most: int = MOST,
) -> EncoderAttribution:
    """Integrated gradients of a logit difference over the pixels of an input, summed by patch.

    Args:
        encoder: A model with a classifier.
        source: A file, array or Signal; see `read_signal`.
        answer: A class; None for what the model takes the input for.
        wrong: Another class; None for the next likeliest.
        baseline: Where the line starts: another input of the same length; None for an empty
            picture, or silence.
        most: Gradients after which to give up; the record then says what is missing.

    Raises:
        WorkbenchError: An input cannot be read, or there is no such class.

    Reference:
        Sundararajan et al. 2017, arXiv:1703.01365.
    """
    encoder = cast(Encoder, encoder)
    encoder.need_classes("attribution")
    signal = read_signal(encoder, source)
    other = None if baseline is None else read_signal(encoder, baseline)
    end = signal.values.to(encoder.device, encoder.model.dtype)
    start = (signal.blank if other is None else other.values).to(end)
    if start.shape != end.shape:
        raise WorkbenchError(
            f"{signal.name} and its baseline differ in length; cut them to one length."
        )
    one, two = _classes(encoder, end, answer, wrong)

    def slopes(shares: Float[Tensor, " share"]) -> tuple[Tensor, Tensor]:
        """The output at points of the line, and its gradient along the line, by pixel."""
        weights = shares.view(-1, *(1 for _ in end.shape))
        with torch.enable_grad():
            at = (start + weights * (end - start)).requires_grad_()
            logits = encoder.logits(at)
            values = logits[:, one] - logits[:, two]
            (gradient,) = torch.autograd.grad(values.sum(), at)
        return values.detach().double(), (gradient * (end - start)).flatten(1).double()

    flat, (first, last), taken = integrate(slopes, end.device, end.dtype, most)
    missing = abs(float(flat.sum()) - (last - first))
    tolerance = max(ABSOLUTE, RELATIVE * abs(last - first))
    pixels = _drawn(encoder, flat.reshape(end.shape))
    scores, outside = _by_patch(encoder, signal, pixels)
    return EncoderAttribution(
        subject=encoder.name,
        sha256=encoder.hash,
        source=signal.name,
        baseline="blank" if other is None else other.name,
        answer=encoder.labels[one],
        wrong=encoder.labels[two],
        scores=scores,
        pixels=pixels if len(pixels) > 1 else np.zeros((0, 0)),
        outside=outside,
        value=last,
        start=first,
        gradients=taken,
        checks={"completeness": missing},
        tolerance=tolerance,
        converged=missing <= tolerance,
        values=signal.key,
    )


@torch.no_grad()
def _classes(encoder: Encoder, values: Tensor, answer: object, wrong: object) -> tuple[int, int]:
    """The numbers of the two classes whose logits are compared."""
    likeliest = encoder.logits(values[None])[0].argsort(descending=True).tolist()
    if len(likeliest) < 2:
        raise WorkbenchError(f"{encoder.name} has one class, so no other can be compared with it.")
    one = likeliest[0] if answer is None else encoder.label_id(cast(str, answer))
    rest = [i for i in likeliest if i != one]
    two = rest[0] if wrong is None else encoder.label_id(cast(str, wrong))
    if one == two:
        raise WorkbenchError(f"Both classes are {encoder.labels[one]!r}; choose two that differ.")
    return one, two


def _drawn(encoder: Encoder, scores: np.ndarray) -> Float[np.ndarray, "row column"]:
    """Scores of an input as its canvas lies: channels added up, time across."""
    if scores.ndim == 3:
        return scores.sum(0)
    return scores.T if scores.ndim == 2 else scores[None]


def _by_patch(
    encoder: Encoder, signal: Signal, pixels: Float[np.ndarray, "height width"]
) -> tuple[Float[np.ndarray, "row column"], float]:
    """Sums of scores over cells of a patch's distance, each pixel in one; and what is left over."""
    grid = signal.grid
    down, across = grid.step
    row = np.minimum(np.arange(pixels.shape[0]) // down, grid.rows - 1)
    column = np.minimum(np.arange(pixels.shape[1]) // across, grid.columns - 1)
    scores = np.zeros((grid.rows, grid.columns))
    inside = np.zeros(pixels.shape, bool)
    height = (grid.rows - 1) * down + grid.size[0]
    width = (grid.columns - 1) * across + grid.size[1]
    inside[:height, :width] = True
    cells = np.broadcast_to(row[:, None] * grid.columns + column, pixels.shape)
    np.add.at(scores.reshape(-1), cells[inside], pixels[inside])
    return scores, float(pixels[~inside].sum())
