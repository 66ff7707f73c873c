"""How the heads of a rotary model use their frequencies, from real queries and keys.

A pair of dimensions is a complex number that turns by `theta_i` per token, so a query and a key at
distance `d` score `sum_i Re(q_i conj(k_i) e^(i theta_i d))`: with average query and key this is how
a head's score falls with distance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.block import Block
from workbench.interp.families import any_family
from workbench.interp.patterns.heads import beginning
from workbench.interp.patterns.passing import each_pattern
from workbench.interp.position.encoding import layer_wavelengths
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject, SubjectOrName

TOLERANCE = 1e-3
"""Largest difference allowed between a pattern computed from queries and keys and the model's."""
HOOKS = ("hook_in", "attn.hook_cos", "attn.hook_sin")


@dataclass(frozen=True)
class RotaryUse(Record):
    """The use of rotary frequencies: means with 95 % intervals (`low`, `high`) over `n` texts.

    - `used`: the share of each frequency in `|q_i| |k_i|`, fast pairs first; sums to 1 over pairs
        (Barbero et al. 2024 study the same norms)
    - `decay`: the score of an average query with an average key at each distance, scaled as scores
        are (YaRN's and longrope's factor included)
    - `wavelengths`: tokens per full turn of each pair
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

    def headline(self) -> str:
        """The result in a few words."""
        layer, head, pair = np.unravel_index(self.used.argmax(), self.used.shape)
        return f"rotary pair used most: {pair} by L{layer}H{head}, share {self.used.max():.3f}"

    def to_frame(self) -> pd.DataFrame:
        """One row per head and distance: the score of average query and key, with `low`, `high`."""
        layer, head, distance = (i.ravel() for i in np.indices(self.decay.shape))
        ends = {"decay": self.decay, "low": self.decay_low, "high": self.decay_high}
        columns = {
            "name": [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)],
            "distance": distance,
        }
        return pd.DataFrame({**columns, **{k: v.ravel() for k, v in ends.items()}})


@public("subject")
@own_modes
@any_family
@torch.no_grad()
def rotary_use(
    subject: SubjectOrName, texts: Sequence[str], *, max_distance: int = 64, length: int = 128
) -> RotaryUse:
    """Which frequencies each head's queries and keys use, and how its score falls with distance.

    Which dimensions turn together is found by trying which pairing gives the model's own pattern.

    Args:
        subject: The model.
        texts: Texts, whose first token is left out.
        max_distance: Largest distance, in tokens.
        length: Tokens that each text is cut to.

    Raises:
        WorkbenchError: The model has no rotary positions, or turns in a way that is not known here.

    Reference:
        Barbero et al. 2024, arXiv:2410.06205.
    """
    subject = cast(Subject, subject)
    if subject.card.positions != "rotary":
        raise WorkbenchError(
            f"{subject.name} has {subject.card.positions} positions; only rotary ones have "
            "frequencies."
        )
    card = subject.card
    turns = np.stack([layer_wavelengths(subject, i) for i in range(card.n_layers)])
    distance = np.arange(max_distance + 1)
    used = np.zeros((len(texts), card.n_layers, card.n_heads, turns.shape[1]))
    decay = np.zeros((len(texts), card.n_layers, card.n_heads, len(distance)))
    hooks = {f"blocks.{i}.{hook}" for i in range(card.n_layers) for hook in HOOKS}
    pairings: list[Callable] = []
    for t, text in enumerate(texts):
        ids = beginning(subject, text, min(length, subject.n_ctx))
        _, cache = subject.bridge.run_with_cache(ids, names_filter=lambda name: name in hooks)
        blocks = reading(subject, ids, cache)
        if not pairings:
            pairings = _pairings(subject, ids, blocks, turns)
        for i, block in enumerate(blocks):
            q, k = (
                _queries_or_keys(block, part, pairings[i], turns.shape[1]).without_first()
                for part in "qk"
            )
            size = np.abs(q.pairs).mean(0) * np.abs(k.pairs).mean(0)
            used[t, i] = size / size.sum(-1, keepdims=True)
            product = q.pairs.mean(0) * k.pairs.mean(0).conj() * _gain(block)
            angle = np.exp(2j * np.pi * distance / turns[i][:, None])
            still = (q.rest.mean(0) * k.rest.mean(0)).sum(-1, keepdims=True)
            decay[t, i] = ((product @ angle).real + still) * block.scaling
    used_mean, used_low, used_high = mean_interval(used)
    decay_mean, decay_low, decay_high = mean_interval(decay)
    return RotaryUse(
        subject=subject.name,
        used=used_mean,
        used_low=used_low,
        used_high=used_high,
        decay=decay_mean,
        decay_low=decay_low,
        decay_high=decay_high,
        wavelengths=turns,
        n=len(texts),
    )


class _Reading(Block):
    """A block up to its queries and keys, from its attention's input: right for any norms."""

    needs = ("attn",)

    def __init__(
        self, subject: Subject, layer: int, cache: Any, given: Float[Tensor, "pos d_model"]
    ):
        super().__init__(subject, layer, cache, len(given))
        self.given = given

    @cached_property
    def normed(self) -> Float[Tensor, "pos d_model"]:
        """The input of attention."""
        return self.given

    @cached_property
    def sized(self) -> dict[str, Tensor] | None:
        """Queries and keys after QK-norm, by head or over all heads together (OLMo 2)."""
        sized: dict[str, Tensor] = {}
        for part in "qk":
            norm = getattr(self.attn, f"{part}_norm", None)
            norm = norm or getattr(self.attn, f"{part}_layernorm", None)
            if norm is None:
                return None
            values = getattr(self, part)
            all_heads = norm.weight.shape == values.flatten(1).shape[1:]
            sized[part] = norm(values.flatten(1)).view_as(values) if all_heads else norm(values)
        return sized


def reading(subject: Subject, ids: Tensor, cache: Any) -> list[_Reading]:
    """The blocks of a text, with the inputs of their attention, caught while the model runs.

    Args:
        subject: The model.
        ids: Token ids of the text.
        cache: The activations of its run at `HOOKS`, by name.
    """
    card = subject.card
    given: dict[int, Tensor] = {}
    mapping: Any = subject.bridge.adapter.component_mapping["blocks"]
    layers: Any = subject.model.get_submodule(mapping.name)
    handles = []
    for i in range(card.n_layers):

        def catch(module: Any, args: Any, kwargs: Any, i: int = i) -> None:
            given[i] = (args[0] if args else kwargs["hidden_states"])[0]

        attention = layers[i].get_submodule(mapping.submodules["attn"].name)
        handles.append(attention.register_forward_pre_hook(catch, with_kwargs=True))
    try:
        subject.model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return [_Reading(subject, i, cache, given[i]) for i in range(card.n_layers)]


@dataclass(frozen=True)
class _Turning:
    """Queries or keys of all query heads as complex pairs, and the dimensions that do not turn."""

    pairs: Complex[np.ndarray, "pos head pair"]
    rest: Float[np.ndarray, "pos head dim"]

    def without_first(self) -> "_Turning":
        """The same without the first token, unless it is the only one."""
        first = min(1, len(self.pairs) - 1)
        return _Turning(self.pairs[first:], self.rest[first:])


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Dimensions i and i + d/2 turn together, as in Llama."""
    first, second = x.chunk(2, -1)
    return first, second


def _neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """Dimensions 2i and 2i + 1 turn together, as in GPT-J and Cohere."""
    return x[..., ::2], x[..., 1::2]


def _queries_or_keys(block: Block, part: str, pairing: Callable, n_pairs: int) -> _Turning:
    values = block.unturned(part).double().cpu()
    values = values.repeat_interleave(block.n_heads // values.shape[1], 1)
    first, second = pairing(values[..., : 2 * n_pairs])
    rest = values[..., 2 * n_pairs :].numpy()  # some models turn a part only
    return _Turning(torch.complex(first, second).numpy(), rest)


def _gain(block: Block) -> float:
    """The factor of turning on a score: YaRN and longrope lengthen the sines and cosines."""
    names = [f"blocks.{block.layer}.attn.hook_{name}" for name in ("cos", "sin")]
    if any(name not in block.cache for name in names):
        return 1.0
    cos, sin = (block.cache[name].double() for name in names)
    return float((cos.square() + sin.square()).mean())


def _pairings(
    subject: Subject, ids: Tensor, blocks: Sequence[Block], turns: np.ndarray
) -> list[Callable]:
    """The pairing of dimensions in each layer whose scores give the model's own pattern.

    Raises:
        WorkbenchError: Neither pairing does.
    """
    patterns: dict[int, np.ndarray] = {}

    def keep(layer: int, pattern: Tensor) -> None:
        patterns[layer] = pattern[0].double().cpu().numpy()

    each_pattern(subject, ids, keep)
    pairings = []
    for i, block in enumerate(blocks):
        off = {way: _off(block, way, turns[i], patterns[i]) for way in (_halves, _neighbours)}
        best = min(off, key=lambda way: off[way])
        if not off[best] <= TOLERANCE:
            raise WorkbenchError(
                f"{subject.name} ({subject.card.architecture}) turns its queries and keys in a way "
                f"that is not known here: the pattern of layer {i} made from them is off by "
                f"{off[best]:.2g}."
            )
        pairings.append(best)
    return pairings


def _off(block: Block, pairing: Callable, turns: np.ndarray, pattern: np.ndarray) -> float:
    """The largest difference between the model's pattern and that of this pairing."""
    q, k = (_queries_or_keys(block, part, pairing, len(turns)) for part in "qk")
    angle = np.exp(2j * np.pi * np.arange(len(q.pairs))[:, None, None] / turns)
    score = np.einsum("qhp,khp->hqk", q.pairs * angle, (k.pairs * angle).conj()).real * _gain(block)
    score = (score + np.einsum("qhd,khd->hqk", q.rest, k.rest)) * block.scaling
    if block.softcap:
        score = block.softcap * np.tanh(score / block.softcap)
    score = np.where(block.mask.cpu().numpy(), score, -np.inf)
    share = np.exp(score - score.max(-1, keepdims=True))
    # A learned sink takes the same part of every key's share.
    share = share / share.sum(-1, keepdims=True) * pattern.sum(-1, keepdims=True)
    return float(np.abs(share - pattern).max())
