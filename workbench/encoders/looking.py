"""Attention on patches: from a class token or a patch to all others, by head and rolled out."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from workbench.encoders.reader import patterns
from workbench.encoders.reading import read_signal
from workbench.encoders.signals import Source, position_names
from workbench.errors import WorkbenchError
from workbench.interp import rollout
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects.encoder import Encoder, EncoderOrName

LARGEST = 2**27
"""Most pattern entries of all layers together (half a gigabyte)."""


@dataclass(frozen=True)
class EncoderAttention(Record):
    """The attention of every head on one picture or sound.

    - `tokens`: the name of each position: special tokens, then patches by row and column
    - `special`: number of special tokens
    - `grid`: rows and columns of patches
    - `pattern`: rows (queries) sum to 1 over keys; every position sees every other
    - `values`: sha256 of the model's input
    """

    subject: str
    sha256: str
    source: str
    tokens: list[str]
    special: int
    grid: tuple[int, int]
    pattern: Float[np.ndarray, "layer head query key"]
    remarks: list[str]
    values: str

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the input."""
        return {"input": self.values}

    def headline(self) -> str:
        """The result in a few words."""
        n_layers, n_heads = self.pattern.shape[:2]
        rows, columns = self.grid
        return f"{n_layers} layers of {n_heads} heads on {rows} by {columns} patches"

    def on_patches(self, layer: int, head: int, position: int) -> Float[np.ndarray, "row column"]:
        """Attention from a position to each patch.

        Raises:
            WorkbenchError: There is no such head or position.
        """
        return self._from(layer, head, position)[self.special :].reshape(self.grid)

    def on_special(self, layer: int, head: int, position: int) -> Float[np.ndarray, " token"]:
        """Attention from a position to the special tokens: what `on_patches` lacks to sum to 1.

        Raises:
            WorkbenchError: There is no such head or position.
        """
        return self._from(layer, head, position)[: self.special]

    def rolled_out(self, position: int) -> Float[np.ndarray, " key"]:
        """Attention multiplied through all layers, half of each the residual stream; sums to 1.

        Args:
            position: The position whose stream is followed back.

        Reference:
            Abnar & Zuidema 2020, arXiv:2005.00928.
        """
        return rollout(self, position)[0]

    def _from(self, layer: int, head: int, position: int) -> Float[np.ndarray, " key"]:
        n_layers, n_heads, n = self.pattern.shape[:3]
        if not (0 <= layer < n_layers and 0 <= head < n_heads and 0 <= position < n):
            raise WorkbenchError(
                f"There is no position {position} of L{layer}H{head}: the heads are L0H0 to "
                f"L{n_layers - 1}H{n_heads - 1}, the positions 0 to {n - 1}."
            )
        return self.pattern[layer, head, position]

    def to_frame(self) -> pd.DataFrame:
        """One row per head, query and key."""
        layer, head, query, key = np.indices(self.pattern.shape).reshape(4, -1)
        names = np.array(self.tokens)
        return pd.DataFrame(
            {
                "layer": layer,
                "head": head,
                "query": names[query],
                "key": names[key],
                "attention": self.pattern.ravel(),
            }
        )


@public("encoder", signals=True)
@own_modes
@torch.no_grad()
def encoder_attention(encoder: EncoderOrName, source: Source) -> EncoderAttention:
    """The attention of all heads while a model sees a picture or hears a sound.

    Args:
        encoder: The model.
        source: A file, array or Signal; see `read_signal`.

    Raises:
        WorkbenchError: It cannot be read, or is too long for all its patterns to be kept.
    """
    encoder = cast(Encoder, encoder)
    signal = read_signal(encoder, source)
    names = position_names(encoder, signal.grid)
    entries = encoder.card.n_layers * encoder.card.n_heads * len(names) ** 2
    if entries > LARGEST:
        raise WorkbenchError(
            f"{signal.name} has {len(names):,} positions, whose attention in all heads is "
            f"{entries:,} numbers, more than the {LARGEST:,} that are kept; cut it."
        )
    layers = patterns(encoder, signal.values[None])
    return EncoderAttention(
        subject=encoder.name,
        sha256=encoder.hash,
        source=signal.name,
        tokens=names,
        special=len(encoder.family.special),
        grid=(signal.grid.rows, signal.grid.columns),
        pattern=torch.cat(layers).cpu().numpy(),
        remarks=list(signal.remarks),
        values=signal.key,
    )
