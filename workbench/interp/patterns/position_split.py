"""How much of a head's attention position explains, how much content, and how much only both
together.

The same few tokens, each given twice, in many random orders are a factorial experiment: every token
pair meets at many pairs of positions. The logarithm of attention is then a sum of a position part,
a content part and a rest, after a free constant for every query, which softmax cannot see. A query
meets its own token at its own place, and once more at its
other copy: that second meeting tells a head that looks for its own token from one that looks at its
    own place.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.patterns.attention import each_pattern
from workbench.interp.patterns.heads import head_frame
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject, SubjectOrName

ROUNDS = 30
"""Of the alternating projections; the design is nearly orthogonal, so a few would do."""
PARTS = {
    "position": "explained by where query and key stand",
    "content": "explained by which two tokens they are",
    "interaction": "the rest: both together, and the tokens in between",
}


@dataclass(frozen=True)
class PositionSplit(Record):
    """Shares of the variance of attention scores, by part: `mean`, `low`, `high` are `[layer,
    head]`.

    The three shares of a head sum to 1; 95 % intervals over `n` sets, each read in `orders` orders
    of `tokens` places.
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
        """What was found, in a few words."""
        shares = ", ".join(f"{part} {values.mean():.3f}" for part, values in self.mean.items())
        return f"mean share of the variance of attention scores: {shares}"

    def to_frame(self) -> pd.DataFrame:
        """One row a head: its name, layer, head, each share with `_low` and `_high`."""
        return head_frame(self.mean, self.low, self.high)


@public("subject")
@own_modes
def position_split(
    subject: SubjectOrName, *, n: int = 8, tokens: int = 12, orders: int = 16, seed: int = 0
) -> PositionSplit:
    """Split the variance of every head's attention scores into position, content and interaction.

    `n` sets of random tokens, each token twice, `tokens` in all, are read in `orders` random orders
    each, after one fixed first token, whose column is left out, since many heads park attention
    there. Raises `WorkbenchError` when the context is too short.
    """
    tokens = _even(subject, tokens)
    mean, low, high = {}, {}, {}
    for part, values in split_samples(
        subject, n=n, tokens=tokens, orders=orders, seed=seed
    ).items():
        mean[part], low[part], high[part] = mean_interval(values)
    return PositionSplit(subject.name, subject.hash, mean, low, high, n, tokens, orders, seed)


def split_samples(
    subject: Subject, *, n: int = 8, tokens: int = 12, orders: int = 16, seed: int = 0
) -> dict[str, Float[np.ndarray, "n layer head"]]:
    """The shares of every set of tokens, which `position_split` averages; raises what that raises."""
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
    """How many places there are: an even number that the context holds after its first token."""
    return min(tokens, subject.n_ctx - 1) // 2 * 2


def shuffled_tokens(
    subject: Subject, tokens: int, orders: int, rng: np.random.Generator
) -> tuple[Int[Tensor, "order pos"], Int[Tensor, "order drawn"]]:
    """One set of random ordinary tokens, each twice, in random orders, after a first token; and
    which stands where.

    The second leaves the first token out: `drawn` is `pos - 1`.
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
    """Adjusted shares of variance (as adjusted R^2, so that chance fits count for nothing), each
    head's summing to 1.

    Scores after the query are not looked at. What position and content could both explain is
    divided as what each
    explains alone, beyond the other: a head that one of them explains wholly is given wholly to it.
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
    alone = both - other, both - one  # what position adds to content, and content to position
    common = both - alone[0] - alone[1]
    weight = torch.where(
        alone[0] + alone[1] > 1e-9, alone[0] / (alone[0] + alone[1]).clamp_min(1e-12), 0.5
    )
    position = (alone[0] + weight * common).clamp(0, 1)
    content = (both - position).clamp(min=0)
    size = _residual(flat, [row]).square().sum(-1)
    flatness = size <= 1e-12 * flat.square().sum(-1).clamp_min(
        1e-30
    )  # even attention: nothing to explain
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
