"""What the heads of a rotary model do with their frequencies, from real queries and keys.

A pair of dimensions is a complex number that turns by `theta_i` a token, so a query and a key `d` apart score
`sum_i Re(q_i conj(k_i) e^(i theta_i d))`: with average query and key this is how a head's score falls with distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from workbench.errors import WorkbenchError
from workbench.interp.block import Block
from workbench.interp.families import any_family
from workbench.interp.patterns.heads import beginning
from workbench.interp.position.positional import position_encoding
from workbench.statistics import mean_interval
from workbench.subjects import Subject

HOOKS = ("hook_in", "attn.hook_cos", "attn.hook_sin")


@dataclass(frozen=True)
class RotaryUse:
    """Means with 95 % intervals (`low`, `high`) over `n` texts.

    - `used[layer, head, pair]`: the share of each frequency in `|q_i| |k_i|`, fast pairs first; sums to 1 over pairs
      (Barbero et al. 2024 look at the same norms)
    - `decay[layer, head, distance]`: the score of an average query with an average key so far back, scaled as scores
      are
    - `wavelengths[layer]`: tokens a full turn of each pair
    """

    subject: str
    used: Float[np.ndarray, "layer head pair"]
    used_low: Float[np.ndarray, "layer head pair"]
    used_high: Float[np.ndarray, "layer head pair"]
    decay: Float[np.ndarray, "layer head distance"]
    decay_low: Float[np.ndarray, "layer head distance"]
    decay_high: Float[np.ndarray, "layer head distance"]
    wavelengths: Float[np.ndarray, "layer pair"]
    n: int

    def to_frame(self) -> pd.DataFrame:
        """One row a head and distance: the score of an average query with an average key, with `low` and `high`."""
        layer, head, distance = (i.ravel() for i in np.indices(self.decay.shape))
        ends = {"decay": self.decay, "low": self.decay_low, "high": self.decay_high}
        columns = {"name": [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)], "distance": distance}
        return pd.DataFrame({**columns, **{k: v.ravel() for k, v in ends.items()}})


@any_family
@torch.no_grad()
def rotary_use(subject: Subject, texts: Sequence[str], *, max_distance: int = 64, length: int = 128) -> RotaryUse:
    """Which frequencies each head's queries and keys use, and how its score falls with distance.

    Texts are cut to `length` tokens; the first token is left out. Raises `WorkbenchError` for a model without rotary
    positions.
    """
    if subject.card.positions != "rotary":
        raise WorkbenchError(
            f"{subject.name} has {subject.card.positions} positions; only rotary ones have frequencies."
        )
    card = subject.card
    turns = np.stack([layer_wavelengths(subject, i) for i in range(card.n_layers)])
    distance = np.arange(max_distance + 1)
    used = np.zeros((len(texts), card.n_layers, card.n_heads, turns.shape[1]))
    decay = np.zeros((len(texts), card.n_layers, card.n_heads, len(distance)))
    for t, text in enumerate(texts):
        ids = beginning(subject, text, min(length, subject.n_ctx))
        wanted = {f"blocks.{i}.{hook}" for i in range(card.n_layers) for hook in HOOKS}
        _, cache = subject.bridge.run_with_cache(ids, names_filter=lambda name, wanted=wanted: name in wanted)
        for i in range(card.n_layers):
            block = Block(subject, i, cache, ids.shape[1])
            pairs, rest = {}, {}
            for part in "qk":
                values = block.unturned(part)[min(1, ids.shape[1] - 1) :].double().cpu()
                values = values.repeat_interleave(card.n_heads // values.shape[1], 1)
                first, second = values[..., : 2 * turns.shape[1]].chunk(2, -1)
                pairs[part] = torch.complex(first, second).numpy()
                rest[part] = values[..., 2 * turns.shape[1] :].mean(0).numpy()  # some models turn a part only
            size = np.abs(pairs["q"]).mean(0) * np.abs(pairs["k"]).mean(0)
            used[t, i] = size / size.sum(-1, keepdims=True)
            product = pairs["q"].mean(0) * pairs["k"].mean(0).conj()
            angle = np.exp(2j * np.pi * distance / turns[i][:, None])
            still = (rest["q"] * rest["k"]).sum(-1, keepdims=True)
            decay[t, i] = ((product @ angle).real + still) * block.scaling
    (u, ul, uh), (d, dl, dh) = mean_interval(used), mean_interval(decay)
    return RotaryUse(subject.name, u, ul, uh, d, dl, dh, turns, len(texts))


def layer_wavelengths(subject: Subject, layer: int) -> Float[np.ndarray, " pair"]:
    """Tokens a full turn of each pair of a layer; some models turn faster in layers with a sliding window."""
    by_type = position_encoding(subject).wavelengths
    kinds = getattr(subject.model.config.get_text_config(), "layer_types", None)
    kind = kinds[layer] if kinds else ""
    return by_type.get(kind, next(iter(by_type.values())))
