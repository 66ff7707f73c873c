"""Similarity of two Subjects' residual streams, layer by layer, at the same tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.stats import t as student
from torch import Tensor

from workbench.comparison.matching import need, same_ids
from workbench.comparison.text import TEXTS
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject

MEASURES = {
    "cka": "linear CKA",
    "cosine": "mean cosine",
    "difference": "relative norm of the difference",
}
LENGTH = 96
"""Tokens of each text."""
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class LayerShift(Record):
    """Similarity of two residual streams before the first layer and after each layer.

    Stage 0 is before the first layer, stage i after layer i - 1. The first token of every text is
    left out: in many models its vector is so long that it would dominate every measure.

    Attributes:
        base: Name of the model before.
        tuned: Name of the model after.
        mean: For each of `MEASURES`: linear CKA over all tokens (1 is the same up to rotation and
            scale), mean cosine of a token's two vectors, and |tuned - base| / |base|.
        low: Lower ends of the 95 % intervals over texts, for CKA by the jackknife.
        high: Upper ends.
        n: Texts.
        tokens: Tokens measured.
    """

    base: str
    tuned: str
    mean: dict[str, Float[np.ndarray, " stage"]]
    low: dict[str, Float[np.ndarray, " stage"]]
    high: dict[str, Float[np.ndarray, " stage"]]
    n: int
    tokens: int

    def to_frame(self) -> pd.DataFrame:
        """One row a stage and measure."""
        rows = [
            {
                "stage": i,
                "measure": name,
                "value": values[i],
                "low": self.low[name][i],
                "high": self.high[name][i],
            }
            for name, values in self.mean.items()
            for i in range(len(values))
        ]
        return pd.DataFrame(rows).assign(n=self.n)


@own_modes
def layer_shift(
    base: Subject,
    tuned: Subject,
    texts: Sequence[str] | None = None,
    *,
    progress: Report | None = None,
) -> LayerShift:
    """Similarity of two models' residual streams, layer by layer, on the same texts.

    The base's activations are stored; the tuned model's are compared layer by layer as they are
    computed, so that only one model's are in memory.

    Args:
        base: The model before.
        tuned: The model after.
        texts: The first `LENGTH` tokens of each are read; `TEXTS` by default.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the models differ in tokenizer or shape, or hide their residual stream.
    """
    need(base, tuned, "layers")
    ids, text = padded(same_ids(base, tuned, TEXTS if texts is None else texts, LENGTH))
    counted = text >= 0
    owners = text[counted]
    stages = base.card.n_layers + 1
    base_streams: dict[int, Tensor] = {}  # by stage: [token, d_model]
    each_stream(
        base,
        ids,
        lambda stage, stream: base_streams.__setitem__(stage, stream[counted].cpu()),
    )
    intervals = {name: np.zeros((3, stages)) for name in MEASURES}  # mean, low, high

    def compare(stage: int, stream: Tensor) -> None:
        if progress is not None:
            progress(stage / stages, f"layer {stage} of {stages - 1}")
        ours = base_streams.pop(stage).double()
        theirs = stream[counted].cpu().double()
        for name, interval in similarity(ours, theirs, owners).items():
            intervals[name][:, stage] = interval

    each_stream(tuned, ids, compare)
    return LayerShift(
        base=base.name,
        tuned=tuned.name,
        mean={name: values[0] for name, values in intervals.items()},
        low={name: values[1] for name, values in intervals.items()},
        high={name: values[2] for name, values in intervals.items()},
        n=int(owners.max()) + 1,
        tokens=len(owners),
    )


def padded(
    rows: list[Int[Tensor, "1 _pos"]],
) -> tuple[Int[Tensor, "text pos"], Int[Tensor, "text pos"]]:
    """(token ids, text index) of texts as one batch, padded on the right.

    Causal attention never sees padding on the right. The text index is -1 at every first token and
    at padding, which are not measured.
    """
    longest = max(row.shape[1] for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    text = torch.full((len(rows), longest), -1)
    for i, row in enumerate(rows):
        ids[i, : row.shape[1]] = row[0]
        text[i, 1 : row.shape[1]] = i
    return ids, text


def each_stream(
    subject: Subject,
    ids: Int[Tensor, "text pos"],
    look: Callable[[int, Float[Tensor, "text pos d_model"]], None],
) -> None:
    """Run the model once and call `look(stage, stream)` for each stage, storing no activations.

    Args:
        subject: The model.
        ids: Token ids.
        look: Called with the stage (0: before the first layer, i: after layer i - 1) and the
            residual stream there.

    Raises:
        WorkbenchError: TransformerLens does not show the model's residual stream.
    """
    n_layers = subject.card.n_layers
    seen = set()

    def show(stream: Tensor, hook: Any, stage: int) -> None:
        seen.add(stage)
        look(stage, stream.detach())

    hooks = [("blocks.0.hook_in", partial(show, stage=0))]
    hooks += [(f"blocks.{i}.hook_out", partial(show, stage=i + 1)) for i in range(n_layers)]
    with torch.no_grad():
        subject.bridge.run_with_hooks(ids.to(subject.device), fwd_hooks=hooks)
    if len(seen) != n_layers + 1:
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) does not show its residual stream."
        )


def similarity(
    ours: Float[Tensor, "token d_model"],
    theirs: Float[Tensor, "token d_model"],
    text: Int[Tensor, " token"],
) -> dict[str, tuple[float, float, float]]:
    """Each of `MEASURES` as (mean, low, high), with its 95 % interval over texts.

    Args:
        ours: The base's residual stream.
        theirs: The tuned model's.
        text: Which text each token is from.
    """
    dot = (ours * theirs).sum(-1)
    our_square = (ours * ours).sum(-1)
    their_square = (theirs * theirs).sum(-1)
    cosine = dot / (our_square * their_square).sqrt().clamp_min(1e-30)
    difference = (theirs - ours).norm(dim=-1) / our_square.sqrt().clamp_min(1e-30)
    groups = [text == i for i in text.unique()]
    intervals = {"cka": jackknife(ours @ ours.T, theirs @ theirs.T, groups)}
    for name, values in (("cosine", cosine), ("difference", difference)):
        samples = np.array([float(values[group].mean()) for group in groups])
        mean, low, high = mean_interval(samples)
        intervals[name] = (float(mean), float(low), float(high))
    return intervals


def jackknife(
    ours: Float[Tensor, "token token"], theirs: Float[Tensor, "token token"], groups: list[Tensor]
) -> tuple[float, float, float]:
    """Linear CKA of two Gram matrices as (value, low, high), leaving out one text at a time.

    Args:
        ours: Gram matrix of the base's stream.
        theirs: Gram matrix of the tuned model's.
        groups: For each text, which tokens are its own.

    Reference:
        Efron & Stein 1981, "The Jackknife Estimate of Variance".
    """
    value = cka(ours, theirs)
    n = len(groups)
    if n < 2:
        return value, float("nan"), float("nan")
    left = np.array([cka(ours[~group][:, ~group], theirs[~group][:, ~group]) for group in groups])
    stderr = float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))
    half = stderr * float(student.ppf(0.975, n - 1))
    return value, max(0.0, value - half), min(1.0, value + half)


def cka(ours: Float[Tensor, "token token"], theirs: Float[Tensor, "token token"]) -> float:
    """Linear centred kernel alignment of two Gram matrices of the same tokens.

    Reference:
        Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited".
    """
    a, b = (x - x.mean(0) - x.mean(1, keepdim=True) + x.mean() for x in (ours, theirs))
    scale = ((a * a).sum() * (b * b).sum()).sqrt()
    return float((a * b).sum() / scale) if scale else float("nan")
