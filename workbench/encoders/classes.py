"""What an encoder takes one picture or sound for: the probability of every class."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from workbench.encoders.reading import read_signal
from workbench.encoders.signals import Source
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects.encoder import Encoder, EncoderOrName


@dataclass(frozen=True)
class EncoderClasses(Record):
    """The classes of one input.

    - `logits`, `probability`: of each of `labels`
    - `remarks`: what was changed on reading it
    - `values`: sha256 of the model's input
    """

    subject: str
    sha256: str
    source: str
    labels: list[str]
    logits: Float[np.ndarray, " label"]
    probability: Float[np.ndarray, " label"]
    remarks: list[str]
    values: str

    @property
    def predicted(self) -> str:
        """The likeliest class."""
        return self.labels[int(self.probability.argmax())]

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the input."""
        return {"input": self.values}

    def headline(self) -> str:
        """The result in a few words."""
        return f"{self.source} is {self.predicted!r}, p = {self.probability.max():.3f}"

    def to_frame(self) -> pd.DataFrame:
        """One row per class, the likeliest first."""
        frame = pd.DataFrame(
            {"label": self.labels, "logit": self.logits, "probability": self.probability}
        )
        return frame.sort_values("probability", ascending=False, ignore_index=True)


@public("encoder", signals=True)
@own_modes
@torch.no_grad()
def encoder_classes(encoder: EncoderOrName, source: Source) -> EncoderClasses:
    """The probability of every class of one picture or sound.

    Args:
        encoder: A model with a classifier.
        source: A file, array or Signal; see `read_signal`.

    Raises:
        WorkbenchError: It cannot be read, or the model has no classifier.
    """
    encoder = cast(Encoder, encoder)
    encoder.need_classes("a class")
    signal = read_signal(encoder, source)
    logits = encoder.logits(signal.values[None])[0].double().cpu()
    return EncoderClasses(
        subject=encoder.name,
        sha256=encoder.hash,
        source=signal.name,
        labels=encoder.labels,
        logits=logits.numpy(),
        probability=logits.softmax(-1).numpy(),
        remarks=list(signal.remarks),
        values=signal.key,
    )
