"""How often an encoder names the right class, and how early: the classifier after every layer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from workbench.encoders.reader import AT_ONCE, encoder_reader
from workbench.encoders.reading import stacked
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Estimate, estimate_mean
from workbench.subjects.encoder import Encoder, EncoderOrName


@dataclass(frozen=True)
class EncoderAccuracy(Record):
    """Accuracy of an encoder, and of its classifier on the stream after every layer.

    - `probability`: of each class, by the model
    - `true`: the class of each input
    - `accuracy`: share of inputs whose likeliest class is the true one
    - `by_layer`: the same with the final norm and the classifier put after fewer layers; row 0 is
      the embedding, the last row the model
    - `values`: sha256 of the inputs
    """

    subject: str
    sha256: str
    labels: list[str]
    probability: Float[np.ndarray, "input label"]
    true: Int[np.ndarray, " input"]
    accuracy: Estimate
    by_layer: list[Estimate]
    values: str
    n: int

    @property
    def predicted(self) -> Int[np.ndarray, " input"]:
        """The likeliest class of each input."""
        return self.probability.argmax(1)

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the inputs."""
        return {"inputs": self.values}

    def headline(self) -> str:
        """The result in a few words."""
        a = self.accuracy
        return f"accuracy {a.value:.3f} [{a.low:.3f}, {a.high:.3f}]"

    def to_frame(self) -> pd.DataFrame:
        """One row per layer: accuracy with its interval."""
        return pd.DataFrame(
            {
                "row": range(len(self.by_layer)),
                "accuracy": [e.value for e in self.by_layer],
                "low": [e.low for e in self.by_layer],
                "high": [e.high for e in self.by_layer],
            }
        )


@public("encoder", signals=True)
@own_modes
@torch.no_grad()
def encoder_accuracy(
    encoder: EncoderOrName,
    sources: Any,
    labels: Sequence[int] | Sequence[str] | np.ndarray,
    *,
    progress: Progress | None = None,
) -> EncoderAccuracy:
    """How often a model names the right class, by layer too.

    Args:
        encoder: The model.
        sources: Pictures or sounds: a list of files and arrays, or an array of several.
        labels: The class of each, by number or name.
        progress: Called with the share that is done, and a few words.

    Raises:
        WorkbenchError: An input cannot be read, or labels do not fit.
    """
    encoder = cast(Encoder, encoder)
    encoder.need_classes("accuracy")
    signals, values = stacked(encoder, sources)
    given = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(given) != len(signals):
        raise WorkbenchError(
            f"There are {len(signals)} {encoder.modality}s and {len(given)} labels; give one each."
        )
    true = np.array([encoder.label_id(label) for label in given])
    reader = encoder_reader(encoder)
    logits: list[torch.Tensor] = []
    read: list[torch.Tensor] = []
    for i, batch in enumerate(values.split(AT_ONCE)):
        run = reader.record(batch)
        logits.append(run.logits.double().cpu())
        read.append(torch.stack([encoder.pooled(x).argmax(-1).cpu() for x in run.resid]))
        if progress is not None:
            done = min(len(values), (i + 1) * AT_ONCE)
            progress(done / len(values), f"{done:,} of {len(values):,} {encoder.modality}s")
    named = torch.cat(read, 1).numpy()  # [row, input]
    probability = torch.cat(logits).softmax(-1).numpy()
    return EncoderAccuracy(
        subject=encoder.name,
        sha256=encoder.hash,
        labels=encoder.labels,
        probability=probability,
        true=true,
        accuracy=estimate_mean((probability.argmax(1) == true).astype(float)),
        by_layer=[estimate_mean((row == true).astype(float)) for row in named],
        values=hashlib.sha256(values.numpy().tobytes()).hexdigest(),
        n=len(true),
    )
