"""The logit lens of an encoder: its classifier put after every layer, and on every position.

As the model reads it (the class token, or the mean that the model takes), and on each patch alone,
which the classifier was never trained on: a patch's reading says what the stream holds there, not
what the model uses of it.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from workbench.encoders.reader import encoder_reader
from workbench.encoders.reading import read_signal
from workbench.encoders.signals import Source, position_names
from workbench.interp.patching.trust import failed
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects.encoder import Encoder, EncoderOrName


@dataclass(frozen=True)
class EncoderLens(Record):
    """The classifier's reading of one input after each layer.

    Row 0 is the embedding, row i the stream after layer i - 1.

    - `probability`: read as the model reads its last stream
    - `by_position`: read at each position alone
    - `tokens`, `special`, `grid`: positions, as in `EncoderAttention`
    - `checks`: the last row against the model's own logits
    """

    subject: str
    sha256: str
    source: str
    labels: list[str]
    probability: Float[np.ndarray, "row label"]
    by_position: Float[np.ndarray, "row pos label"]
    tokens: list[str]
    special: int
    grid: tuple[int, int]
    checks: dict[str, float]
    values: str

    @property
    def top(self) -> list[str]:
        """The likeliest class of each row."""
        return [self.labels[i] for i in self.probability.argmax(-1)]

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the input."""
        return {"input": self.values}

    def failed_checks(self) -> list[str]:
        """The checks that failed, in words."""
        return failed(self.checks)

    def headline(self) -> str:
        """The result in a few words."""
        return f"after each layer: {', '.join(self.top)}"

    def on_patches(self, row: int, label: int) -> Float[np.ndarray, "row column"]:
        """The probability of a class read at each patch."""
        return self.by_position[row, self.special :, label].reshape(self.grid)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and class."""
        row, label = np.indices(self.probability.shape).reshape(2, -1)
        return pd.DataFrame(
            {
                "row": row,
                "label": np.array(self.labels)[label],
                "probability": self.probability.ravel(),
            }
        )


@public("encoder", signals=True)
@own_modes
@torch.no_grad()
def encoder_lens(encoder: EncoderOrName, source: Source) -> EncoderLens:
    """What the classifier reads of one picture or sound after every layer.

    Args:
        encoder: A model with a classifier.
        source: A file, array or Signal; see `read_signal`.

    Raises:
        WorkbenchError: It cannot be read, or the model has no classifier.

    Reference:
        nostalgebraist 2020, on the classifier of a vision transformer.
    """
    encoder = cast(Encoder, encoder)
    encoder.need_classes("a lens")
    signal = read_signal(encoder, source)
    run = encoder_reader(encoder).record(signal.values[None])
    pooled = torch.cat([encoder.pooled(resid) for resid in run.resid])
    alone = torch.cat([encoder.by_position(resid) for resid in run.resid])
    off = float((pooled[-1] - run.logits[0]).abs().max())
    return EncoderLens(
        subject=encoder.name,
        sha256=encoder.hash,
        source=signal.name,
        labels=encoder.labels,
        probability=pooled.double().softmax(-1).cpu().numpy(),
        by_position=alone.double().softmax(-1).cpu().numpy(),
        tokens=position_names(encoder, signal.grid),
        special=len(encoder.family.special),
        grid=(signal.grid.rows, signal.grid.columns),
        checks={"lens": off},
        values=signal.key,
    )
