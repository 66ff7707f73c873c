"""How the residual stream changed, layer by layer, at the same tokens."""

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
    """Likeness of two residual streams before the first layer (stage 0) and after each layer (stage
    i: layer i - 1).

    `mean`, `low` and `high` hold `[stage]` for each of `MEASURES`: linear CKA over all tokens
    (Kornblith et al. 2019; 1 = the same up to rotation and scale), the mean cosine of the two
    vectors of a token, and |tuned - base| / |base|. 95 % intervals are over the `n` texts, for CKA
    by the jackknife. Every text's first token is left out: in many models its vector is so long
    that it would decide all of them. `tokens` counts the rest.
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
    """Compare the streams on `texts` (default: `TEXTS`), the first `LENGTH` tokens of each.

    The base's stream is kept, the tuned one's is looked at as it rises and dropped: one model's
    activations at a time. Raises `WorkbenchError` for another tokenizer or shape.
    """
    need(base, tuned, "layers")
    ids, text = padded(same_ids(base, tuned, TEXTS if texts is None else texts, LENGTH))
    kept: dict[int, Tensor] = {}
    stages = base.card.n_layers + 1
    each_stream(base, ids, lambda stage, stream: kept.__setitem__(stage, stream[text >= 0].cpu()))
    of = text[text >= 0]
    found = {name: np.zeros((3, stages)) for name in MEASURES}

    def look(stage: int, stream: Tensor) -> None:
        if progress is not None:
            progress(stage / stages, f"layer {stage} of {stages - 1}")
        ours, theirs = kept.pop(stage).double(), stream[text >= 0].cpu().double()
        for name, values in likeness(ours, theirs, of).items():
            found[name][:, stage] = values

    each_stream(tuned, ids, look)
    parts = [{name: values[i] for name, values in found.items()} for i in range(3)]
    return LayerShift(base.name, tuned.name, *parts, int(of.max()) + 1, len(of))


def padded(
    rows: list[Int[Tensor, "1 _pos"]],
) -> tuple[Int[Tensor, "text pos"], Int[Tensor, "text pos"]]:
    """Texts as one batch, filled up on the right, where nothing before can see it; and the text of
    each counted token.

    The second is -1 at every first token and at what was filled up.
    """
    longest = max(row.shape[1] for row in rows)
    ids, text = (
        torch.zeros(len(rows), longest, dtype=torch.long),
        torch.full((len(rows), longest), -1),
    )
    for i, row in enumerate(rows):
        ids[i, : row.shape[1]] = row[0]
        text[i, 1 : row.shape[1]] = i
    return ids, text


def each_stream(
    subject: Subject,
    ids: Int[Tensor, "text pos"],
    look: Callable[[int, Float[Tensor, "text pos d_model"]], None],
) -> None:
    """Run the model once and show the residual stream of each stage to `look(stage, stream)`; none
    is kept.

    Raises `WorkbenchError` where TransformerLens does not show it.
    """
    n_layers, seen = subject.card.n_layers, set()

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


def likeness(
    ours: Float[Tensor, "token d_model"],
    theirs: Float[Tensor, "token d_model"],
    text: Int[Tensor, " token"],
) -> dict[str, tuple[float, float, float]]:
    """Each of `MEASURES` with its 95 % interval over texts."""
    dot, size, other = (
        (a * b).sum(-1) for a, b in ((ours, theirs), (ours, ours), (theirs, theirs))
    )
    cosine = dot / (size * other).sqrt().clamp_min(1e-30)
    apart = (theirs - ours).norm(dim=-1) / size.sqrt().clamp_min(1e-30)
    groups = [text == i for i in text.unique()]
    found = {"cka": jackknife(ours @ ours.T, theirs @ theirs.T, groups)}
    for name, values in (("cosine", cosine), ("difference", apart)):
        samples = np.array([float(values[group].mean()) for group in groups])
        mean, low, high = mean_interval(samples)
        found[name] = (float(mean), float(low), float(high))
    return found


def jackknife(
    ours: Float[Tensor, "token token"], theirs: Float[Tensor, "token token"], groups: list[Tensor]
) -> tuple[float, float, float]:
    """Linear CKA of two Gram matrices with its 95 % interval, leaving one text out at a time (Efron
    & Stein 1981).
    """
    value, n = cka(ours, theirs), len(groups)
    if n < 2:
        return value, float("nan"), float("nan")
    left = np.array([cka(ours[~group][:, ~group], theirs[~group][:, ~group]) for group in groups])
    stderr = float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))
    half = stderr * float(student.ppf(0.975, n - 1))
    return value, max(0.0, value - half), min(1.0, value + half)


def cka(ours: Float[Tensor, "token token"], theirs: Float[Tensor, "token token"]) -> float:
    """Linear centred kernel alignment of two Gram matrices of the same tokens (Kornblith et al.
    2019).
    """
    a, b = (x - x.mean(0) - x.mean(1, keepdim=True) + x.mean() for x in (ours, theirs))
    scale = ((a * a).sum() * (b * b).sum()).sqrt()
    return float((a * b).sum() / scale) if scale else float("nan")
