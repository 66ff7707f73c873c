"""A model's position encoding, read off its weights: vectors, rotary wavelengths, ALiBi slopes."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName
from workbench.subjects import positions as encoding

TABLES = ("wpe", "position_embeddings", "embed_positions", "pos", "positions_embed")
"""The names that families give their table of position vectors."""


@dataclass(frozen=True)
class Encoding(Record):
    """A model's position encoding.

    - `matrix`: learned or sinusoidal vectors
    - `singular_values`: of the centred matrix
    - `effective_rank`: exponential of the entropy of their normalised squares (Roy & Vetterli 2007)
    - `wavelengths`: rotary; tokens per full turn of each pair of dimensions, by layer type if they
        differ
    - `slopes`: ALiBi, one per head
    """

    kind: str
    matrix: Float[np.ndarray, "pos d_model"] | None = None
    singular_values: Float[np.ndarray, " component"] | None = None
    effective_rank: float | None = None
    wavelengths: dict[str, Float[np.ndarray, " pair"]] = field(default_factory=dict)
    slopes: Float[np.ndarray, " head"] | None = None

    def headline(self) -> str:
        """The result in a few words."""
        if self.effective_rank is not None:
            return f"{self.kind} positions, effective rank {self.effective_rank:.1f}"
        return f"{self.kind} positions"

    def to_frame(self) -> pd.DataFrame:
        """The numbers of the encoding: one row per position, pair of dimensions, or head."""
        if self.matrix is not None:
            return pd.DataFrame(self.matrix).rename_axis("position").reset_index()
        if self.slopes is not None:
            return pd.DataFrame({"head": range(len(self.slopes)), "slope": self.slopes})
        turns = [
            pd.DataFrame({"layers": k, "pair": range(len(v)), "wavelength": v})
            for k, v in self.wavelengths.items()
        ]
        return pd.concat(turns, ignore_index=True) if turns else pd.DataFrame()

    @property
    def similarity(self) -> Float[np.ndarray, "pos pos"] | None:
        """Cosine similarity of the position vectors, not centred, so that a common offset shows."""
        if self.matrix is None:
            return None
        unit = self.matrix / np.linalg.norm(self.matrix, axis=1, keepdims=True).clip(1e-12)
        return unit @ unit.T


@public("subject")
@own_modes
@any_family
def position_encoding(subject: SubjectOrName) -> Encoding:
    """The position encoding of a model, read off its weights, buffers and configuration."""
    subject = cast(Subject, subject)
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
        return Encoding(kind, slopes=alibi_slopes(subject))
    return Encoding(kind)


def layer_wavelengths(subject: Subject, layer: int) -> Float[np.ndarray, " pair"]:
    """Tokens per full turn of each pair in a layer; sliding-window layers may turn faster."""
    by_type = position_encoding(subject).wavelengths
    kinds = getattr(subject.model.config.get_text_config(), "layer_types", None)
    kind = kinds[layer] if kinds else ""
    return by_type.get(kind, next(iter(by_type.values())))


def alibi_slopes(subject: Subject) -> Float[np.ndarray, " head"]:
    """How much each head's score falls per token of distance.

    Falcon adds the bias before it divides scores by the root of `d_head`, and rounds slopes to
    bfloat16.
    """
    config: Any = subject.model.config.get_text_config()
    n_heads = subject.card.n_heads
    if config.model_type == "falcon":
        slopes = encoding.alibi_slopes(n_heads).bfloat16().double()
        return (slopes * subject.card.d_head**-0.5).float().numpy()
    return encoding.alibi_slopes(n_heads).numpy()


def _position_matrix(subject: Subject) -> Float[np.ndarray, "pos d_model"]:
    if subject.card.positions == "sinusoidal":
        return encoding.sinusoidal(torch.arange(subject.n_ctx), subject.card.d_model).numpy()
    table = _position_table(subject)
    weight = table.weight.detach().float()
    first = _first_row(subject, table)
    return weight[first : first + subject.n_ctx].cpu().numpy()


def _position_table(subject: Subject) -> Any:
    """The module that holds a model's learned position vectors."""
    tables = [
        module
        for name, module in subject.model.named_modules()
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in TABLES
    ]
    if len(tables) != 1:
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) has {len(tables)} tables of position "
            "vectors where one was expected, so its encoding cannot be shown."
        )
    return tables[0]


@torch.no_grad()
def _first_row(subject: Subject, table: Any) -> int:
    """The row that the first position of a text reads; OPT and others keep rows before it."""
    read: list[Tensor] = []
    handle = table.register_forward_hook(
        lambda module, inputs, output: read.append(output.detach())
    )
    ids = torch.ones(1, 2, dtype=torch.long, device=subject.device)
    try:
        subject.model(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    rows = read[0].flatten(0, -2)[:2]
    for first in range(len(table.weight) - 1):
        if torch.equal(table.weight[first : first + 2], rows):
            return first
    raise WorkbenchError(
        f"{subject.name} changes its position vectors as it reads them; they cannot be shown."
    )


def _wavelengths(subject: Subject) -> dict[str, Float[np.ndarray, " pair"]]:
    base = getattr(subject.model.config, "rotary_base", None)
    if base is not None:
        frequencies = {"all layers": encoding.rotary_frequencies(subject.card.d_head, base)}
    else:
        frequencies = {}
        for name, buffer in subject.model.named_buffers():
            if name.endswith("inv_freq") and "original" not in name:
                kind = name.rpartition(".")[2].removesuffix("inv_freq").strip("_")
                frequencies[kind or "all layers"] = buffer.double().cpu()
    table = None if frequencies else _turn_table(subject)
    if table is not None:
        frequencies = {"all layers": table}
    if not frequencies:
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) does not show the frequencies of its "
            "rotary positions; choose another model."
        )
    return {name: (2 * np.pi / f).numpy() for name, f in frequencies.items()}


def _turn_table(subject: Subject) -> Float[Tensor, " pair"] | None:
    """The frequencies of a model with a table of sines and cosines, as GPT-J and CodeGen have.

    None if there is no such table (sines first), or if its base is not the usual 10,000.
    """
    tables = [
        b
        for name, b in subject.model.named_buffers()
        if name.endswith("rotary_emb.embed_positions")
    ]
    if not tables or tables[0].ndim != 2 or len(tables[0]) < 2:
        return None
    n_pairs = tables[0].shape[1] // 2
    frequencies = encoding.rotary_frequencies(2 * n_pairs)
    position = min(len(tables[0]) - 1, 7)
    row = tables[0][position].double().cpu()
    wanted = torch.cat([(position * frequencies).sin(), (position * frequencies).cos()])
    return frequencies if torch.allclose(row, wanted, atol=1e-5) else None
