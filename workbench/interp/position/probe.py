"""A linear probe for absolute position in the residual stream of every layer, with a control."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.linear.stages import each_stage
from workbench.interp.patterns.heads import repeated_tokens
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject, SubjectOrName

FOLDS = 8
"""Folds of the cross-validation, each of whole sequences."""


@dataclass(frozen=True)
class PositionProbe(Record):
    """R^2 of a linear probe for the position, on held-out sequences, by stage.

    A stage is the stream before each layer and after the last.

    - `mean`, `low`, `high`: R^2, with 95 % intervals over the `n` folds
    - `control`: the same with the positions of every sequence shuffled, which is what a linear
        probe of this size finds in nothing
    - `sequences`, `length`: sequences of random tokens, and tokens of each
    """

    subject: str
    mean: Float[np.ndarray, " stage"]
    low: Float[np.ndarray, " stage"]
    high: Float[np.ndarray, " stage"]
    control: Float[np.ndarray, " stage"]
    n: int
    sequences: int
    length: int
    seed: int

    def headline(self) -> str:
        """The result in a few words."""
        best = int(self.mean.argmax())
        control = f"control {self.control[best]:.3f}"
        return f"R² of the position {self.mean[best]:.3f} at stage {best}, {control}"

    def to_frame(self) -> pd.DataFrame:
        """One row per stage; stage 0 is the embedding."""
        columns = {
            "stage": range(len(self.mean)),
            "r2": self.mean,
            "low": self.low,
            "high": self.high,
        }
        return pd.DataFrame({**columns, "control": self.control})


@public("subject")
@own_modes
def position_probe(
    subject: SubjectOrName, *, n: int = 40, length: int = 64, seed: int = 0
) -> PositionProbe:
    """A linear probe (ridge regression) for absolute position, on the stream of random tokens.

    Args:
        subject: The model.
        n: Sequences.
        length: Tokens of a sequence; fewer if the context is shorter.
        seed: For the tokens and the control.

    Raises:
        WorkbenchError: The context holds fewer than eight tokens.
    """
    subject = cast(Subject, subject)
    length = min(length, subject.n_ctx)
    if length < 8:
        raise WorkbenchError(
            f"The context of {subject.name} holds {subject.n_ctx} tokens; the linear probe needs "
            "eight."
        )
    ids = repeated_tokens(subject, n, length, seed)[:, :length]
    rng = np.random.default_rng(seed)
    position = np.tile(np.arange(1, length), (n, 1))  # the first token is every sequence's first
    shuffled = rng.permuted(position, axis=1)
    n_layers = subject.card.n_layers
    scores = np.zeros((2, FOLDS, n_layers + 1))

    def look(stage: int, stream: Tensor) -> None:
        values = stream[:, 1:].double().cpu().numpy()
        for i, target in enumerate((position, shuffled)):
            scores[i, :, stage] = _r2(values, target)

    each_stage(subject, ids, look)
    mean, low, high = mean_interval(scores[0])
    return PositionProbe(subject.name, mean, low, high, scores[1].mean(0), FOLDS, n, length, seed)


def _r2(values: Float[np.ndarray, "sequence pos d_model"], target: np.ndarray) -> list[float]:
    """R^2 on each fold's held-out sequences."""
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = []
    for fold in range(FOLDS):
        held = np.arange(len(values)) % FOLDS == fold
        ridge = make_pipeline(StandardScaler(), Ridge(alpha=10.0))
        ridge.fit(values[~held].reshape(-1, values.shape[-1]), target[~held].ravel())
        guess = ridge.predict(values[held].reshape(-1, values.shape[-1]))
        scores.append(float(r2_score(target[held].ravel(), guess)))
    return scores
