"""Attention rollout, attention flow, and attention weighted by its gradient.

All three follow attention through the layers back to the prompt. They are readings of the pattern,
not causes: only patching changes something and sees what happens.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.interp.patterns.attention import Attention
from workbench.interp.patterns.passing import pattern_hooks
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName

LONGEST_FLOW = 128
"""Longest prompt for attention flow, in tokens; each of them is a maximum-flow problem."""
LARGEST_GRADIENT = 2**25
"""Pattern entries of all layers together whose gradients are kept at once."""
STEPS = 10**6
"""Flow capacities are whole numbers: attention in millionths."""


@runtime_checkable
class Patterned(Protocol):
    """What a rollout reads: the patterns `[layer, head, query, key]`, and a name a position."""

    @property
    def pattern(self) -> np.ndarray:
        """The patterns."""
        ...

    @property
    def tokens(self) -> list[str]:
        """The names."""
        ...


def mixed(attention: Patterned) -> Float[np.ndarray, "layer query key"]:
    """The mean over heads, half and half with the identity for the residual stream."""
    n_pos = len(attention.tokens)
    mean = np.stack([layer.mean(0, dtype=np.float32) for layer in attention.pattern])
    return 0.5 * mean + 0.5 * np.eye(n_pos, dtype=np.float32)


@own_modes
def rollout(attention: Patterned, position: int) -> Float[np.ndarray, "layer key"]:
    """Attention rollout: a position's attention, multiplied through the layers.

    Args:
        attention: The patterns of a prompt.
        position: The position whose stream is followed back.

    Returns:
        Row `l` is the share of each token's stream before layer `l` in the position's stream after
        the last layer; row 0 is the prompt itself. Rows sum to 1.

    Raises:
        WorkbenchError: There is no such position.

    Reference:
        Abnar & Zuidema 2020, arXiv:2005.00928.
    """
    _check(attention, position)
    layers = mixed(attention)
    shares = np.zeros((len(layers), len(attention.tokens)), np.float32)
    row = np.eye(len(attention.tokens), dtype=np.float32)[position]
    for i in range(len(layers) - 1, -1, -1):
        row = row @ layers[i]
        shares[i] = row
    return shares


@own_modes
def flow(attention: Attention, position: int) -> Float[np.ndarray, " key"]:
    """Attention flow: the maximum flow from each token up to a position.

    The layers are a network whose capacities are the attention.

    Args:
        attention: The patterns of a prompt.
        position: The position that the flow goes to, below `LONGEST_FLOW`.

    Raises:
        WorkbenchError: There is no such position, or it is too late.

    Reference:
        Abnar & Zuidema 2020, arXiv:2005.00928.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    _check(attention, position)
    if position >= LONGEST_FLOW:
        raise WorkbenchError(
            f"Attention flow to position {position} is {position + 1} maximum-flow problems; take "
            f"a position below {LONGEST_FLOW}, or rollout."
        )
    n = position + 1
    layers = mixed(attention)[:, :n, :n]
    query, key = np.tril_indices(n)
    level = np.arange(len(layers))[:, None] * n
    capacity = np.round(layers[:, query, key] * STEPS).astype(np.int32).ravel()
    # Node (l + 1, query) reads node (l, key).
    ends = ((level + n + query).ravel(), (level + key).ravel())
    size = (len(layers) + 1) * n
    graph = csr_array((capacity, ends), shape=(size, size))
    graph.eliminate_zeros()
    top = size - n + position
    return np.array([maximum_flow(graph, top, j).flow_value / STEPS for j in range(n)], np.float32)


@dataclass(frozen=True)
class GradientAttention(Record):
    """Attention times the gradient of one token's logit with respect to it, positive part.

    - `heads`: the sum over a head's pattern
    - `relevance`: each token's relevance for the position, propagated through the layers (Chefer et
        al. 2021), without the position's own start; 0 for later tokens
    """

    position: int
    target: str
    logit: float
    heads: Float[np.ndarray, "layer head"]
    relevance: Float[np.ndarray, " key"]

    def headline(self) -> str:
        """The result in a few words."""
        first = self.to_frame().iloc[0]
        return (
            f"logit of {self.target!r} at position {self.position} ({self.logit:+.3f}) rests most "
            f"on {first['name']}, {first['gradient_attention']:.3f}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per head: name and sum, the largest first."""
        layer, head = (i.ravel() for i in np.indices(self.heads.shape))
        names = [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)]
        frame = pd.DataFrame({"name": names, "gradient_attention": self.heads.ravel()})
        return frame.sort_values("gradient_attention", ascending=False, ignore_index=True)


@public("subject")
@own_modes
@any_family
def gradient_attention(
    subject: SubjectOrName,
    prompt: str,
    *,
    position: int | None = None,
    answer: str | int | None = None,
) -> GradientAttention:
    """The attention that a token's logit depends on, to first order.

    Args:
        subject: The model.
        prompt: The prompt.
        position: Where the logit is read; None for the last position.
        answer: The token, as text or id; None for the token that the model predicts there.

    Raises:
        WorkbenchError: There is no such position or token, or the prompt is too long to keep its
            gradients.

    Reference:
        Chefer et al. 2021, arXiv:2103.15679.
    """
    subject = cast(Subject, subject)
    ids = subject.encode(prompt)
    card = subject.card
    n = ids.shape[1]
    position = n - 1 if position is None else position
    if not 0 <= position < n:
        raise WorkbenchError(f"The prompt has positions 0 to {n - 1}, not {position}.")
    target = subject.answer_id(answer) if isinstance(answer, str) else answer
    if target is not None and not 0 <= target < card.d_vocab:
        raise WorkbenchError(
            f"The vocabulary of {subject.name} ends at {card.d_vocab - 1}; there is no token "
            f"{target}."
        )
    if card.n_layers * card.n_heads * n * n > LARGEST_GRADIENT:
        most = int((LARGEST_GRADIENT / card.n_layers / card.n_heads) ** 0.5)
        raise WorkbenchError(
            f"Gradients of {subject.name} fit up to {most} tokens; the prompt has {n}. Shorten it."
        )
    patterns: dict[int, Tensor] = {}

    def follow(pattern: Tensor, hook: Any, layer: int) -> Tensor:
        # The weights take no gradient, so the first pattern starts the graph and the later ones are
        # part of it.
        pattern = pattern if pattern.requires_grad else pattern.detach().requires_grad_()
        pattern.retain_grad()
        patterns[layer] = pattern
        return pattern

    hooks = [(name, partial(follow, layer=i)) for i, name in enumerate(pattern_hooks(subject))]
    with torch.enable_grad():
        logits = subject.bridge.run_with_hooks(ids, fwd_hooks=hooks)[0, position]
        token = int(logits.argmax()) if target is None else target
        if not logits.requires_grad:  # the pattern is only shown, and the model does not use it
            raise WorkbenchError(
                f"{subject.name} does not let gradients through its attention pattern."
            )
        logits[token].backward()
    heads = np.zeros((card.n_layers, card.n_heads), np.float32)
    relevance = torch.eye(n, dtype=logits.dtype)
    for layer in range(card.n_layers):
        pattern = patterns[layer]
        gradient = pattern.grad
        if gradient is None:
            raise WorkbenchError(
                f"{subject.name} does not let gradients through its attention pattern."
            )
        weighted = (pattern.detach() * gradient).clamp_min(0)[0].cpu()
        heads[layer] = weighted.sum((-2, -1)).numpy()
        relevance = relevance + weighted.mean(0).to(relevance) @ relevance
    relevance = relevance - torch.eye(n, dtype=logits.dtype)
    name = subject.tokens(torch.tensor([token]))[0]
    return GradientAttention(
        position, name, float(logits[token].detach()), heads, relevance[position].float().numpy()
    )


def _check(attention: Patterned, position: int) -> None:
    if isinstance(attention, Attention) and attention.part:
        raise WorkbenchError(
            f"{attention.subject} is no decoder-only model; rollout and flow follow a next token "
            "back through causal layers, so they need one, such as shelf-base."
        )
    n_pos = len(attention.tokens)
    if not 0 <= position < n_pos:
        raise WorkbenchError(f"The prompt has positions 0 to {n_pos - 1}, not {position}.")
