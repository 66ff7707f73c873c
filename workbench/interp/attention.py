"""Attention patterns of a prompt: every head of every layer, read layer by layer through TransformerLens's hooks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.subjects import Subject

FULL_PRECISION = 2**26
"""Above this many pattern entries (a quarter of a gigabyte) they are kept in half precision."""


@dataclass(frozen=True)
class Attention:
    """The attention of one prompt.

    `pattern` is `[layer, head, query, key]`: rows (destinations) sum to 1 over keys (sources), and no query sees a
    later key. `tokens` is one string a position.
    """

    subject: str
    sha256: str
    prompt: str
    tokens: list[str]
    pattern: Float[np.ndarray, "layer head query key"]

    def head(self, layer: int, head: int) -> Float[np.ndarray, "query key"]:
        """One head's pattern in single precision. Raises `WorkbenchError` for a head that is not there."""
        n_layers, n_heads = self.pattern.shape[:2]
        if not (0 <= layer < n_layers and 0 <= head < n_heads):
            raise WorkbenchError(
                f"{self.subject} has no L{layer}H{head}; it has L0H0 to L{n_layers - 1}H{n_heads - 1}."
            )
        return self.pattern[layer, head].astype(np.float32)

    def to_frame(self, layer: int, head: int) -> pd.DataFrame:
        """One head as a table: query and key positions, their tokens, the attention."""
        pattern = self.head(layer, head)
        query, key = np.tril_indices(len(self.tokens))
        return pd.DataFrame(
            {
                "query": query,
                "key": key,
                "query_token": [self.tokens[i] for i in query],
                "key_token": [self.tokens[i] for i in key],
                "attention": pattern[query, key],
            }
        )

    def to_html(self, path: str | Path, *, layer: int = 0, head: int = 0) -> Path:
        """Write a self-contained page: the atlas of all heads and one head in full."""
        from workbench.figures import attention as draw
        from workbench.figures.export import write_html

        figures = [
            draw.atlas(self.pattern, title=f"{self.subject}: all heads"),
            draw.head(self.head(layer, head), self.tokens, title=f"L{layer}H{head}"),
        ]
        return write_html(figures, path, title=f"Attention of {self.subject}", text=self.prompt)


def attention(subject: Subject, prompt: str) -> Attention:
    """The attention patterns of a prompt.

    Raises `WorkbenchError` for an empty or overlong prompt, or a model without attention patterns.
    """
    ids = subject.encode(prompt)
    n, c = ids.shape[1], subject.card
    size = c.n_layers * c.n_heads * n * n
    found = np.zeros((c.n_layers, c.n_heads, n, n), np.float32 if size <= FULL_PRECISION else np.float16)

    def keep(layer: int, pattern: Tensor) -> None:
        found[layer] = pattern[0].cpu().numpy()

    each_pattern(subject, ids, keep)
    return Attention(subject.name, subject.hash, prompt, subject.tokens(ids), found)


def each_pattern(
    subject: Subject,
    ids: Int[Tensor, "batch pos"],
    look: Callable[[int, Float[Tensor, "batch head query key"]], None],
) -> None:
    """Run the model once and show each layer's pattern to `look(layer, pattern)`; none is kept."""
    seen = set()

    def show(pattern: Tensor, hook: Any, layer: int) -> None:
        seen.add(layer)
        look(layer, pattern.detach().float())

    layers = range(subject.card.n_layers)
    hooks = [(f"blocks.{i}.attn.hook_pattern", partial(show, layer=i)) for i in layers]
    with torch.no_grad():
        subject.bridge.run_with_hooks(ids, fwd_hooks=hooks)
    if len(seen) != len(layers):
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) shows attention patterns in {len(seen)} of {len(layers)} "
            "layers; its attention is of a kind that TransformerLens cannot read."
        )
