"""Head statistics on repeated random tokens: what each head attends to when only order and repetition matter.

On a sequence of random tokens given twice, an induction head at the second copy of a token looks at the token after
its first copy (Elhage et al. 2021, Olsson et al. 2022: prefix matching).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.interp.attention import each_pattern
from workbench.statistics import mean_interval
from workbench.subjects import Subject

SCORES = {
    "induction_score": "attention from the second copy of a token to the token after its first copy",
    "previous_token_score": "attention to the token just before",
    "duplicate_token_score": "attention from the second copy of a token to its first copy",
    "first_token_attention": "attention to the first position",
    "attention_entropy": "entropy of the pattern's rows, in bits",
}
"""Each score in words; all but the entropy lie in 0..1."""


@dataclass(frozen=True)
class HeadScores:
    """Scores of every head: `mean`, `low`, `high` map a score to `[layer, head]`; 95 % intervals over `n` sequences."""

    subject: str
    sha256: str
    mean: dict[str, Float[np.ndarray, "layer head"]]
    low: dict[str, Float[np.ndarray, "layer head"]]
    high: dict[str, Float[np.ndarray, "layer head"]]
    n: int
    length: int
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """One row a head: layer, head, its name, each score with `_low` and `_high`."""
        n_layers, n_heads = self.mean["induction_score"].shape
        layer, head = np.divmod(np.arange(n_layers * n_heads), n_heads)
        columns = {"name": [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)], "layer": layer, "head": head}
        for score in self.mean:
            columns[score] = self.mean[score].ravel()
            columns[f"{score}_low"] = self.low[score].ravel()
            columns[f"{score}_high"] = self.high[score].ravel()
        return pd.DataFrame(columns)

    def best(self, score: str = "induction_score") -> tuple[str, float]:
        """The name and mean score of the head that has most of it."""
        layer, head = np.unravel_index(self.mean[score].argmax(), self.mean[score].shape)
        return f"L{layer}H{head}", float(self.mean[score][layer, head])


def repeated_tokens(subject: Subject, n: int, length: int, seed: int) -> Int[Tensor, "n pos"]:
    """`n` sequences of `length` random ordinary tokens given twice, after the first token a model expects, if any."""
    special = set(subject.tokenizer.all_special_ids)
    ordinary = np.array([i for i in range(min(len(subject.tokenizer), subject.card.d_vocab)) if i not in special])
    rng = np.random.default_rng(seed)
    once = np.stack([rng.choice(ordinary, length, replace=len(ordinary) < length) for _ in range(n)])
    first = subject.tokenizer.bos_token_id
    parts = [once, once] if first is None else [np.full((n, 1), first), once, once]
    return torch.from_numpy(np.concatenate(parts, axis=1)).to(subject.device)


def pattern_scores(
    pattern: Float[Tensor, "batch head query key"], length: int
) -> dict[str, Float[Tensor, "batch head"]]:
    """The scores of one layer's patterns, of sequences whose last `2 length` tokens are `length` tokens given twice."""
    n_pos = pattern.shape[-1]
    second = torch.arange(n_pos - length, n_pos, device=pattern.device)
    later = torch.arange(1, n_pos, device=pattern.device)
    logs = torch.where(pattern > 0, pattern.clamp_min(1e-30).log2(), 0.0)
    return {
        "induction_score": pattern[..., second, second - length + 1].mean(-1),
        "previous_token_score": pattern[..., later, later - 1].mean(-1),
        "duplicate_token_score": pattern[..., second, second - length].mean(-1),
        "first_token_attention": pattern[..., 1:, 0].mean(-1),
        "attention_entropy": -(pattern * logs).sum(-1).mean(-1),
    }


def head_scores(subject: Subject, *, n: int = 8, length: int = 50, seed: int = 0) -> HeadScores:
    """Score every head on `n` repeated random sequences; `length` is cut where the context is shorter."""
    length = min(length, (subject.n_ctx - 1) // 2)
    ids = repeated_tokens(subject, n, length, seed)
    shape = (n, subject.card.n_layers, subject.card.n_heads)
    samples = {score: np.zeros(shape) for score in SCORES}

    def look(layer: int, pattern: Tensor) -> None:
        for score, values in pattern_scores(pattern, length).items():
            samples[score][:, layer] = values.cpu().numpy()

    each_pattern(subject, ids, look)
    mean, low, high = {}, {}, {}
    for score, values in samples.items():
        mean[score], low[score], high[score] = mean_interval(values)
    return HeadScores(subject.name, subject.hash, mean, low, high, n, length, seed)
