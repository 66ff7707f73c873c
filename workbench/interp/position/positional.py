"""Position: what the encoding is, and how far each head looks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.interp.patterns.attention import each_pattern
from workbench.interp.patterns.heads import beginning, repeated_tokens
from workbench.statistics import mean_interval
from workbench.subjects import Subject
from workbench.subjects import positions as encoding


@dataclass(frozen=True)
class Encoding:
    """A model's position encoding.

    - `matrix`: learned or sinusoidal vectors `[pos, d_model]`, with `singular_values` of the centred matrix and
      `effective_rank` (exponential of the entropy of their normalised squares, Roy & Vetterli 2007)
    - `wavelengths`: rotary, tokens a full turn, one for each pair of dimensions, by layer type where they differ
    - `slopes`: ALiBi, one a head
    """

    kind: str
    matrix: Float[np.ndarray, "pos d_model"] | None = None
    singular_values: Float[np.ndarray, " component"] | None = None
    effective_rank: float | None = None
    wavelengths: dict[str, Float[np.ndarray, " pair"]] = field(default_factory=dict)
    slopes: Float[np.ndarray, " head"] | None = None

    def to_frame(self) -> pd.DataFrame:
        """The numbers of the encoding: a row a position (and a column a dimension), a pair of dimensions, or a head."""
        if self.matrix is not None:
            return pd.DataFrame(self.matrix).rename_axis("position").reset_index()
        if self.slopes is not None:
            return pd.DataFrame({"head": range(len(self.slopes)), "slope": self.slopes})
        turns = [
            pd.DataFrame({"layers": k, "pair": range(len(v)), "wavelength": v}) for k, v in self.wavelengths.items()
        ]
        return pd.concat(turns, ignore_index=True) if turns else pd.DataFrame()

    @property
    def similarity(self) -> Float[np.ndarray, "pos pos"] | None:
        """Cosine similarity of the position vectors; centred learned vectors would hide the common offset."""
        if self.matrix is None:
            return None
        unit = self.matrix / np.linalg.norm(self.matrix, axis=1, keepdims=True).clip(1e-12)
        return unit @ unit.T


@any_family
def position_encoding(subject: Subject) -> Encoding:
    """Read a Subject's encoding off its weights, buffers and configuration."""
    kind = subject.card.positions
    if kind in ("learned", "sinusoidal"):
        matrix = _position_matrix(subject)
        values = np.linalg.svd(matrix - matrix.mean(0), compute_uv=False)
        share = values**2 / (values**2).sum()
        rank = float(np.exp(-(share * np.log(share.clip(1e-30))).sum()))
        return Encoding(kind, matrix, values, rank)
    if kind == "rotary":
        return Encoding(kind, wavelengths=_wavelengths(subject))
    if kind == "alibi":
        return Encoding(kind, slopes=encoding.alibi_slopes(subject.card.n_heads).numpy())
    return Encoding(kind)


def _position_matrix(subject: Subject) -> Float[np.ndarray, "pos d_model"]:
    if subject.card.positions == "sinusoidal":
        return encoding.sinusoidal(torch.arange(subject.n_ctx), subject.card.d_model).numpy()
    mapping: Any = subject.bridge.adapter.component_mapping
    if "pos_embed" not in mapping:
        raise WorkbenchError(f"TransformerLens does not say where {subject.name} keeps its position vectors.")
    weight: Any = subject.model.get_submodule(mapping["pos_embed"].name).weight
    return weight.detach().float().cpu().numpy()


def _wavelengths(subject: Subject) -> dict[str, Float[np.ndarray, " pair"]]:
    base = getattr(subject.model.config, "rotary_base", None)
    if base is not None:
        frequencies = {"all layers": encoding.rotary_frequencies(subject.card.d_head, base)}
    else:
        frequencies = {
            name.rpartition(".")[2].removesuffix("inv_freq").strip("_") or "all layers": buffer.double().cpu()
            for name, buffer in subject.model.named_buffers()
            if name.endswith("inv_freq") and "original" not in name
        }
    return {name: (2 * np.pi / f).numpy() for name, f in frequencies.items()}


@dataclass(frozen=True)
class Distances:
    """Mean attention by distance: `mean`, `low`, `high` are `[layer, head, distance]`, 95 % over `n` sequences.

    Distance d is `query - key`; the mean runs over all queries that have a key so far back. The first key is left
    out, since many heads park attention there whatever its distance.
    """

    subject: str
    text: str
    mean: Float[np.ndarray, "layer head distance"]
    low: Float[np.ndarray, "layer head distance"]
    high: Float[np.ndarray, "layer head distance"]
    n: int


def attention_by_distance(
    subject: Subject,
    *,
    texts: list[str] | None = None,
    n: int = 8,
    length: int = 64,
    max_distance: int = 32,
    seed: int = 0,
) -> Distances:
    """How much each head attends to the token d back, on random tokens (position alone) or on `texts`.

    Texts are cut to a common length; those of fewer than `length` tokens are left out.
    Raises `WorkbenchError` when none is long enough.
    """
    length = min(length, subject.n_ctx - 1)
    if texts is None:
        ids = repeated_tokens(subject, n, length, seed)[:, :length]
    else:
        rows = [beginning(subject, t, length)[0] for t in texts]
        rows = [row for row in rows if len(row) >= length]
        if not rows:
            raise WorkbenchError(
                f"No text has {length} tokens for {subject.name}; give longer ones or a smaller length."
            )
        ids = torch.stack(rows)
    n_distances = min(max_distance, length - 2)
    shape = (len(ids), subject.card.n_layers, subject.card.n_heads, n_distances)
    samples = np.zeros(shape)

    def look(layer: int, pattern: Tensor) -> None:
        seen = pattern[..., 1:, 1:]
        for d in range(n_distances):
            samples[:, layer, :, d] = seen.diagonal(-d, -2, -1).mean(-1).cpu().numpy()

    each_pattern(subject, ids, look)
    mean, low, high = mean_interval(samples)
    return Distances(subject.name, "random tokens" if texts is None else "text", mean, low, high, len(ids))
