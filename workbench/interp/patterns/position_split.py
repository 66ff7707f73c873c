"""How much of a head's attention is explained by position, by content, and by both together only.

The same few tokens, each given twice, in many random orders are a factorial experiment: every token
pair occurs at many pairs of positions. The logarithm of attention is then a sum of a position part,
a content part and a rest, after a free constant for every query (softmax is shift-invariant). A
query meets its own token at its own position, and once more at the other copy: the second one tells
a head that looks for its own token from one that looks at its own position.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.patterns.heads import head_frame
from workbench.interp.patterns.passing import each_pattern
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject, SubjectOrName

ROUNDS = 30
"""Rounds of alternating projections; the design is nearly orthogonal, so a few would do."""
PARTS = {
    "position": "explained by where query and key stand",
    "content": "explained by which two tokens they are",
    "interaction": "the rest: both together, and the tokens in between",
}


@dataclass(frozen=True)
class PositionSplit(Record):
    """Shares of the variance of attention scores, by part; a head's three shares sum to 1.

    - `mean`, `low`, `high`: `[layer, head]` per part, with 95 % intervals over `n` sets of tokens
    - `tokens`, `orders`: positions of a sequence, and random orders of each set
    """

    subject: str
    sha256: str
    mean: dict[str, Float[np.ndarray, "layer head"]]
    low: dict[str, Float[np.ndarray, "layer head"]]
    high: dict[str, Float[np.ndarray, "layer head"]]
    n: int
    tokens: int
    orders: int
    seed: int

    def headline(self) -> str:
        """The result in a few words."""
        shares = ", ".join(f"{part} {values.mean():.3f}" for part, values in self.mean.items())
        return f"mean share of the variance of attention scores: {shares}"

    def to_frame(self) -> pd.DataFrame:
        """One row per head: its name, layer, head, each share with `_low` and `_high`."""
        return head_frame(self.mean, self.low, self.high)


@public("subject")
@own_modes
def position_split(
    subject: SubjectOrName, *, n: int = 8, tokens: int = 12, orders: int = 16, seed: int = 0
) -> PositionSplit:
    """The variance of each head's attention scores, split into position, content and interaction.

    The sequences follow one fixed first token, whose column is left out, since many heads attend to
    it whatever else there is.

    Args:
        subject: The model.
        n: Sets of random tokens.
        tokens: Positions of a sequence; each random token stands at two of them.
        orders: Random orders of each set.
        seed: Of tokens and orders.

    Raises:
        WorkbenchError: The context is too short.
    """
    subject = cast(Subject, subject)
    tokens = _even(subject, tokens)
    samples = split_samples(subject, n=n, tokens=tokens, orders=orders, seed=seed)
    mean: dict[str, Float[np.ndarray, "layer head"]] = {}
    low: dict[str, Float[np.ndarray, "layer head"]] = {}
    high: dict[str, Float[np.ndarray, "layer head"]] = {}
    for part, values in samples.items():
        mean[part], low[part], high[part] = mean_interval(values)
    return PositionSplit(subject.name, subject.hash, mean, low, high, n, tokens, orders, seed)


def split_samples(
    subject: Subject, *, n: int = 8, tokens: int = 12, orders: int = 16, seed: int = 0
) -> dict[str, Float[np.ndarray, "n layer head"]]:
    """The shares of every set of tokens, which `position_split` averages.

    Args:
        subject: The model.
        n: Sets of random tokens.
        tokens: Positions of a sequence.
        orders: Random orders of each set.
        seed: Of tokens and orders.

    Raises:
        WorkbenchError: The context is too short.
    """
    tokens = _even(subject, tokens)
    if tokens < 4:
        raise WorkbenchError(
            f"The context of {subject.name} holds {subject.n_ctx} tokens; the split needs five."
        )
    rng = np.random.default_rng(seed)
    shape = (n, subject.card.n_layers, subject.card.n_heads)
    samples = {part: np.zeros(shape) for part in PARTS}
    for i in range(n):
        ids, order = shuffled_tokens(subject, tokens, orders, rng)

        def look(layer: int, pattern: Tensor, i=i, order=order) -> None:
            scores = pattern[..., 1:, 1:].double().clamp_min(1e-30).log().cpu()
            for part, share in variance_shares(scores, order).items():
                samples[part][i, layer] = share.numpy()

        each_pattern(subject, ids, look)
    return samples


def _even(subject: Subject, tokens: int) -> int:
    """The number of positions: even, and within the context after its first token."""
    return min(tokens, subject.n_ctx - 1) // 2 * 2


def shuffled_tokens(
    subject: Subject, tokens: int, orders: int, rng: np.random.Generator
) -> tuple[Int[Tensor, "order pos"], Int[Tensor, "order drawn"]]:
    """One set of random tokens, each twice, in random orders, after a fixed first token.

    Args:
        subject: The model.
        tokens: Positions after the first token; even.
        orders: Random orders.
        rng: The source of randomness.

    Returns:
        The token ids, and which of the random tokens stands where (without the first token).
    """
    special = set(subject.tokenizer.all_special_ids)
    ordinary = [
        i for i in range(min(len(subject.tokenizer), subject.card.d_vocab)) if i not in special
    ]
    n_kinds = tokens // 2
    chosen = rng.choice(ordinary, n_kinds + 1, replace=len(ordinary) <= n_kinds)
    first = subject.tokenizer.bos_token_id
    twice = np.repeat(np.arange(n_kinds), 2)
    order = np.stack([rng.permutation(twice) for _ in range(orders)])
    start = np.full((orders, 1), chosen[-1] if first is None else first)
    ids = np.concatenate([start, chosen[:-1][order]], axis=1)
    return torch.from_numpy(ids).to(subject.device), torch.from_numpy(order)


def variance_shares(
    scores: Float[Tensor, "order head query key"], order: Int[Tensor, "order query"]
) -> dict[str, Float[Tensor, " head"]]:
    """Shares of each head's variance, adjusted as in adjusted R^2, so that chance fits count as 0.

    Scores after the query are ignored. What position and content could both explain is divided in
    proportion to what each explains beyond the other: a head that one of them explains wholly is
    attributed wholly to it.
    """
    n_orders, _, n_pos, _ = scores.shape
    seen = torch.ones(n_pos, n_pos, dtype=torch.bool).tril()
    row = torch.arange(n_pos)[:, None].expand(n_pos, n_pos)[seen].expand(n_orders, -1)
    row = (row + torch.arange(n_orders)[:, None] * n_pos).flatten()
    cell = torch.arange(int(seen.sum())).expand(n_orders, -1).flatten()
    pair = (order[:, :, None] * n_pos + order[:, None, :])[:, seen].flatten()  # [order * cell]
    flat = scores[..., seen].transpose(0, 1).flatten(1)  # [head, order * cell]
    n_pairs = int(order.max()) + 1
    moved = int(cell.max()) + 1 - n_pos  # free effects of a factor beside those of the rows
    content_only = n_pairs * n_pairs - n_pairs
    used = {"rows": n_orders * n_pos, "position": moved, "content": content_only}

    def unexplained(*parts: str) -> Tensor:
        factors = {"position": cell, "content": pair}
        left = _residual(flat, [row, *(factors[part] for part in parts)]).square().sum(-1)
        free = used["rows"] + sum(used[part] for part in parts)
        return left / max(1, flat.shape[1] - free)

    whole = unexplained().clamp_min(1e-30)
    gains = [
        1 - unexplained(*parts) / whole
        for parts in (("position",), ("content",), ("position", "content"))
    ]
    one, other, both = (gain.clamp(0, 1) for gain in gains)
    both = torch.maximum(both, torch.maximum(one, other))
    position_alone = both - other  # what position adds to content
    content_alone = both - one
    common = both - position_alone - content_alone
    alone = position_alone + content_alone
    weight = torch.where(alone > 1e-9, position_alone / alone.clamp_min(1e-12), 0.5)
    position = (position_alone + weight * common).clamp(0, 1)
    content = (both - position).clamp(min=0)
    size = _residual(flat, [row]).square().sum(-1)
    # Even attention: there is nothing to explain.
    flatness = size <= 1e-12 * flat.square().sum(-1).clamp_min(1e-30)
    position, content = (torch.where(flatness, 0.0, x) for x in (position, content))
    return {"position": position, "content": content, "interaction": 1 - position - content}


def _residual(
    values: Float[Tensor, "head n"], factors: list[Int[Tensor, " n"]]
) -> Float[Tensor, "head n"]:
    """What is left after the least-squares fit of an effect for each level of each factor."""
    counts = [torch.bincount(f).clamp_min(1) for f in factors]
    for _ in range(1 if len(factors) == 1 else ROUNDS):
        for factor, count in zip(factors, counts, strict=True):
            sums = torch.zeros(len(values), len(count), dtype=values.dtype).index_add_(
                1, factor, values
            )
            values = values - (sums / count)[:, factor]
    return values
