"""QK and OV circuits read off the weights: copying, strongest token pairs, composition of heads.

All of it is the direct path: the head as if it read the token's own vector and wrote straight into
the logits (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). No prompt is
run, so nothing has an interval.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.weights import LayerWeights, embedding, layer_weights, unembedding
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName

COMMON = 8192
"""Token pairs are sought among this many lowest ids: tokenizers number frequent tokens first."""
ROWS_AT_ONCE = 1024
"""Rows of the product of two circuits' sides that are held in memory."""


@public("subject")
@own_modes
@torch.no_grad()
def copying_scores(subject: SubjectOrName) -> Float[np.ndarray, "layer head"]:
    """Copying scores: `sum(eigenvalues) / sum(|eigenvalues|)` of `W_E W_V W_O W_U`, from -1 to 1.

    A head that raises the logit of whatever token it attends to has positive eigenvalues. The
    cyclic product `W_O W_U W_E W_V` has the same nonzero eigenvalues and is only `d_head` wide.

    Reference:
        Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    subject = cast(Subject, subject)
    middle = unembedding(subject).double().T @ embedding(subject).double()  # [d_model, d_model]
    rows = []
    for w in layer_weights(subject):
        values = torch.linalg.eigvals(w.o.double() @ middle @ w.v.double())
        rows.append((values.real.sum(-1) / values.abs().sum(-1).clamp_min(1e-30)).cpu().numpy())
    return np.stack(rows)


@public("subject")
@own_modes
def strongest_pairs(
    subject: SubjectOrName, layer: int, head: int, *, circuit: str = "OV", n: int = 20
) -> pd.DataFrame:
    """The `n` token pairs with the largest entries of a head's circuit, over `COMMON` tokens.

    Args:
        subject: The model.
        layer: Layer of the head.
        head: The head.
        circuit: `QK`: query token, key token, and the score `q . k / sqrt(d_head)` without any
            position; or `OV`: token attended to, token written, and what its logit gains.
        n: Pairs to give.

    Raises:
        WorkbenchError: There is no such head or circuit.
    """
    subject = cast(Subject, subject)
    card = subject.card
    if not (0 <= layer < card.n_layers and 0 <= head < card.n_heads):
        last = f"L{card.n_layers - 1}H{card.n_heads - 1}"
        raise WorkbenchError(f"{subject.name} has no L{layer}H{head}; it has L0H0 to {last}.")
    if circuit not in ("QK", "OV"):
        raise WorkbenchError(f"A head has a QK and an OV circuit, not {circuit!r}.")
    w = layer_weights(subject)[layer]
    tokens = embedding(subject)[:COMMON]
    if circuit == "QK":
        names = ("query_token", "key_token", "score")
        left = tokens @ w.q[head] / card.d_head**0.5
        right = tokens @ w.k[head]
    else:
        names = ("source_token", "output_token", "logit")
        left = tokens @ w.v[head]
        right = unembedding(subject)[:COMMON] @ w.o[head].T
    first, second, value = _largest(left, right, n)
    columns = (
        subject.tokens(first, unrelated=True),
        subject.tokens(second, unrelated=True),
        value.tolist(),
    )
    return pd.DataFrame(dict(zip(names, columns, strict=True)))


@torch.no_grad()
def _largest(left: Tensor, right: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows, columns and values of the largest entries of `left @ right.T`."""
    rows: list[Tensor] = []
    columns: list[Tensor] = []
    values: list[Tensor] = []
    for start in range(0, len(left), ROWS_AT_ONCE):
        product = left[start : start + ROWS_AT_ONCE] @ right.T
        top, where = product.flatten().topk(min(n, product.numel()))
        rows.append(where // product.shape[1] + start)
        columns.append(where % product.shape[1])
        values.append(top)
    value, order = torch.cat(values).topk(min(n, sum(map(len, values))))
    return torch.cat(rows)[order], torch.cat(columns)[order], value


@dataclass(frozen=True)
class Composition(Record):
    """How much of what an earlier head writes a later head reads.

    - `scores`: by kind (Q, K or V) `[later layer, later head, earlier layer, earlier head]`, NaN if
        the second layer is not below the first: `|W_OV M|_F / (|W_OV|_F |M|_F)` with `M` the later
        head's `W_QK`, its transpose, or its `W_OV`
    - `chance`: about what two random matrices of this shape have, `1 / sqrt(d_model)`
    """

    subject: str
    sha256: str
    scores: dict[str, Float[np.ndarray, "later head earlier head2"]]
    chance: float

    def headline(self) -> str:
        """The result in a few words."""
        first = self.to_frame(1).iloc[0]
        score = f"{first['score']:.3f} (chance about {self.chance:.3f})"
        return (
            f"strongest {first['kind']}-composition {first['earlier']} to {first['later']}, {score}"
        )

    def to_frame(self, n: int | None = None) -> pd.DataFrame:
        """One row per pair of heads and kind, the strongest first: earlier, later, kind, score."""
        tables = []
        for kind, score in self.scores.items():
            where = np.argwhere(np.isfinite(score))
            tables.append(
                pd.DataFrame(
                    {
                        "earlier": [f"L{e}H{f}" for _, _, e, f in where],
                        "later": [f"L{i}H{j}" for i, j, _, _ in where],
                        "kind": kind,
                        "score": score[tuple(where.T)],
                    }
                )
            )
        frame = pd.concat(tables, ignore_index=True).sort_values(
            "score", ascending=False, ignore_index=True
        )
        return frame if n is None else frame.head(n)


@public("subject")
@own_modes
@torch.no_grad()
def composition(subject: SubjectOrName) -> Composition:
    """Q-, K- and V-composition of every pair of heads in different layers.

    Raises:
        WorkbenchError: The model has one layer.

    Reference:
        Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    subject = cast(Subject, subject)
    layers = layer_weights(subject)
    card = subject.card
    if len(layers) < 2:
        raise WorkbenchError(f"{subject.name} has one layer, so no head can feed another.")
    shape = (card.n_layers, card.n_heads, card.n_layers, card.n_heads)
    scores = {kind: np.full(shape, np.nan, np.float32) for kind in "QKV"}
    for earlier, later, kind, values in _pairs(layers):
        scores[kind][later, :, earlier] = values.cpu().numpy()
    return Composition(subject.name, subject.hash, scores, card.d_model**-0.5)


def _pairs(
    layers: list[LayerWeights],
) -> Iterator[tuple[int, int, str, Float[Tensor, "later earlier"]]]:
    """(earlier layer, later layer, kind, scores) of every pair of layers.

    Norms come from the triangles of QR decompositions, `|V O Q K^T| = |R_v (O Q) R_k^T|`, so all
    products are as narrow as a head.
    """
    triangle = [{part: torch.linalg.qr(getattr(w, part)).R for part in "qkv"} for w in layers]
    wide = [torch.linalg.qr(w.o.mT).R for w in layers]  # |O| from the right: [head, d_head, d_head]
    for i, low in enumerate(layers):
        size = (triangle[i]["v"] @ wide[i].mT).norm(dim=(-2, -1))  # |V O|, one per head
        written = triangle[i]["v"] @ low.o  # [head, d_head, d_model]
        for j in range(i + 1, len(layers)):
            up = layers[j]
            r = triangle[j]
            qk = (r["q"] @ r["k"].mT).norm(dim=(-2, -1))
            ov = (r["v"] @ wide[j].mT).norm(dim=(-2, -1))
            sides = {"Q": (up.q, r["k"], qk), "K": (up.k, r["q"], qk), "V": (up.v, wide[j], ov)}
            for kind, (reads, rest, length) in sides.items():
                product = torch.einsum("eam,lmb->leab", written, reads) @ rest.mT[:, None]
                lengths = (length[:, None] * size[None]).clamp_min(1e-30)
                yield i, j, kind, product.norm(dim=(-2, -1)) / lengths
