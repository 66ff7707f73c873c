"""Head statistics on repeated random tokens, where only order and repetition matter, or on texts.

On a sequence of random tokens given twice, an induction head at the second copy of a token looks at
the token after its first copy (Elhage et al. 2021, Olsson et al. 2022: prefix matching). On a text,
copies are the tokens that occurred before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.patterns.measures import entropy
from workbench.interp.patterns.part_scores import part_samples
from workbench.interp.patterns.passing import each_pattern
from workbench.interp.stacks.runs import stacks_of
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject, SubjectOrName
from workbench.subjects.kinds import DECODER

SCORES = {
    "induction_score": "attention from the second copy of a token to the token after its first "
    "copy",
    "previous_token_score": "attention to the token just before",
    "duplicate_token_score": "attention from the second copy of a token to its first copy",
    "first_token_attention": "attention to the first position",
    "attention_entropy": "entropy of the pattern's rows, in bits; what goes to a learned sink "
    "counts as one key more",
    "mean_distance": "how far back the attention lies on average, in tokens",
}
"""Each score in words; they lie in 0..1 but for those in `UNITS`."""
UNITS = {"attention_entropy": "bits", "mean_distance": "tokens"}


@dataclass(frozen=True)
class HeadScores(Record):
    """Scores of every head.

    - `mean`, `low`, `high`: `[layer, head]` per score, with 95 % intervals over `n` sequences
    - `length`: the tokens that are given twice, or the length of the longest text
    - `text`: on what they were measured
    - `part`: which attention of an encoder or encoder-decoder; "" for decoders
    """

    subject: str
    sha256: str
    mean: dict[str, Float[np.ndarray, "layer head"]]
    low: dict[str, Float[np.ndarray, "layer head"]]
    high: dict[str, Float[np.ndarray, "layer head"]]
    n: int
    length: int
    seed: int
    text: str = "random tokens given twice"
    part: str = ""

    def headline(self) -> str:
        """The result in a few words."""
        score = "induction_score" if "induction_score" in self.mean else next(iter(self.mean))
        name, value = self.best(score)
        if self.part:
            return f"{self.part}, on {self.text}: most {score} {value:.3f} ({name})"
        return f"on {self.text}: most {score} {value:.3f} ({name})"

    def to_frame(self) -> pd.DataFrame:
        """One row per head: its name, layer, head, each score with `_low` and `_high`."""
        return head_frame(self.mean, self.low, self.high)

    def best(self, score: str = "induction_score") -> tuple[str, float]:
        """The name and mean score of the head with the highest mean."""
        layer, head = np.unravel_index(self.mean[score].argmax(), self.mean[score].shape)
        return f"L{layer}H{head}", float(self.mean[score][layer, head])


def head_frame(
    mean: dict[str, Float[np.ndarray, "layer head"]],
    low: dict[str, Float[np.ndarray, "layer head"]],
    high: dict[str, Float[np.ndarray, "layer head"]],
) -> pd.DataFrame:
    """One row per head: its name, layer, head, and each score with `_low` and `_high`.

    Args:
        mean: The means by score.
        low: Lower ends of the intervals, by score.
        high: Upper ends.
    """
    layer, head = (i.ravel() for i in np.indices(next(iter(mean.values())).shape))
    columns = {
        "name": [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)],
        "layer": layer,
        "head": head,
    }
    for score in mean:
        for suffix, values in (("", mean), ("_low", low), ("_high", high)):
            columns[score + suffix] = values[score].ravel()
    return pd.DataFrame(columns)


def repeated_tokens(subject: Subject, n: int, length: int, seed: int) -> Int[Tensor, "n pos"]:
    """`n` sequences of random tokens given twice, after the beginning-of-sequence token if any.

    Args:
        subject: The model.
        n: Sequences.
        length: Random tokens, before they are repeated; special tokens are left out.
        seed: Of the draw.
    """
    special = set(subject.tokenizer.all_special_ids)
    n_known = min(len(subject.tokenizer), subject.card.d_vocab)
    ordinary = np.array([i for i in range(n_known) if i not in special])
    rng = np.random.default_rng(seed)
    again = len(ordinary) < length  # a small vocabulary must repeat itself
    once = np.stack([rng.choice(ordinary, length, replace=again) for _ in range(n)])
    first = subject.tokenizer.bos_token_id
    parts = [once, once] if first is None else [np.full((n, 1), first), once, once]
    return torch.from_numpy(np.concatenate(parts, axis=1)).to(subject.device)


def beginning(subject: Subject, text: str, most: int) -> Int[Tensor, "1 pos"]:
    """The first tokens of a text.

    Args:
        subject: The model.
        text: The text, which may be longer than the context.
        most: Tokens to give at most.
    """
    ids = subject.ids(text[: 40 * most])[:most]  # the whole of a book would take long to tokenize
    return torch.tensor([ids], dtype=torch.long, device=subject.device)


def pattern_scores(
    pattern: Float[Tensor, "batch head query key"], length: int
) -> dict[str, Float[Tensor, "batch head"]]:
    """The scores of one layer's patterns on sequences that end in `length` tokens given twice."""
    second = torch.arange(pattern.shape[-1] - length, pattern.shape[-1], device=pattern.device)
    return {
        "induction_score": pattern[..., second, second - length + 1].mean(-1),
        "duplicate_token_score": pattern[..., second, second - length].mean(-1),
        **_shape_scores(pattern),
    }


def text_scores(
    pattern: Float[Tensor, "1 head query key"], ids: Int[Tensor, "1 pos"]
) -> dict[str, Float[Tensor, "1 head"]]:
    """The scores of one layer's pattern on any text.

    Induction and duplicates are attention to what followed earlier copies of a token, and to these
    copies; 0 if nothing is repeated.
    """
    same = (ids[0, :, None] == ids[0]).tril(-1)
    follows = same.roll(1, 1).tril()
    follows[:, 0] = False
    weights = torch.stack([follows, same]).to(pattern.dtype)
    sums = torch.einsum("bhqk,cqk->cbhq", pattern, weights).sum(-1)
    queries = same.any(1).sum().clamp_min(1)
    return {
        "induction_score": sums[0] / queries,
        "duplicate_token_score": sums[1] / queries,
        **_shape_scores(pattern),
    }


def _shape_scores(
    pattern: Float[Tensor, "batch head query key"],
) -> dict[str, Float[Tensor, "batch head"]]:
    """The scores that need no repetition."""
    n_pos = pattern.shape[-1]
    position = torch.arange(n_pos, device=pattern.device)
    back = (position[:, None] - position).clamp_min(0).to(pattern.dtype)
    return {
        "previous_token_score": pattern[..., position[1:], position[1:] - 1].mean(-1),
        "first_token_attention": pattern[..., 1:, 0].mean(-1),
        "attention_entropy": entropy(pattern).mean(-1),
        "mean_distance": torch.einsum("bhqk,qk->bhq", pattern, back).mean(-1),
    }


@public("subject", seq2seq=True, encoder=True)
@own_modes
def head_scores(
    subject: SubjectOrName,
    *,
    texts: Sequence[str] | None = None,
    n: int = 8,
    length: int = 50,
    seed: int = 0,
    part: str = "",
) -> HeadScores:
    """The scores of every head, on repeated random tokens or on texts.

    Encoders and encoder-decoders have the scores of `part_scores.PART_SCORES`, as without a causal
    mask there is no induction.

    Args:
        subject: The model.
        texts: Texts to measure on, cut to `2 * length` tokens, those of fewer than eight left out;
            None for random tokens.
        n: Random sequences.
        length: Random tokens of a sequence, which are given twice; fewer if the context is shorter.
        seed: Of the random tokens.
        part: Which attention of an encoder-decoder, as in `attention`.

    Raises:
        WorkbenchError: No text is long enough, or there is no such part.

    Reference:
        Olsson et al. 2022, arXiv:2209.11895.
    """
    subject = cast(Subject, subject)
    if subject.kind == DECODER:
        if part:
            raise WorkbenchError(
                f"{subject.name} is a decoder-only model: it has no {part} to choose."
            )
        samples, length = score_samples(subject, texts=texts, n=n, length=length, seed=seed)
    else:
        part = stacks_of(subject).need_part(part)
        samples, length = part_samples(subject, part, texts=texts, n=n, length=length, seed=seed)
    mean: dict[str, Float[np.ndarray, "layer head"]] = {}
    low: dict[str, Float[np.ndarray, "layer head"]] = {}
    high: dict[str, Float[np.ndarray, "layer head"]] = {}
    for score, values in samples.items():
        mean[score], low[score], high[score] = mean_interval(values)
    what = "random tokens given twice" if texts is None else "text"
    count = len(next(iter(samples.values())))
    return HeadScores(subject.name, subject.hash, mean, low, high, count, length, seed, what, part)


def score_samples(
    subject: Subject,
    *,
    texts: Sequence[str] | None = None,
    n: int = 8,
    length: int = 50,
    seed: int = 0,
) -> tuple[dict[str, Float[np.ndarray, "n layer head"]], int]:
    """The scores of every sequence, which `head_scores` averages, and the length that was used.

    Args:
        subject: The model.
        texts: As in `head_scores`.
        n: Random sequences.
        length: Random tokens of a sequence, which are given twice.
        seed: Of the random tokens.

    Raises:
        WorkbenchError: No text is long enough.
    """
    length = min(length, (subject.n_ctx - 1) // 2)
    if texts is None:
        ids = repeated_tokens(subject, n, length, seed)
        return _samples(subject, ids, partial(pattern_scores, length=length)), length
    rows = [beginning(subject, text, 2 * length) for text in texts]
    rows = [row for row in rows if row.shape[1] >= 8]
    if not rows:
        raise WorkbenchError(f"No text has eight tokens for {subject.name}; give longer ones.")
    parts = [_samples(subject, row, partial(text_scores, ids=row)) for row in rows]
    samples = {score: np.concatenate([part[score] for part in parts]) for score in SCORES}
    return samples, max(row.shape[1] for row in rows)


def _samples(
    subject: Subject,
    ids: Int[Tensor, "n pos"],
    score: Callable[[Tensor], dict[str, Tensor]],
) -> dict[str, Float[np.ndarray, "n layer head"]]:
    shape = (len(ids), subject.card.n_layers, subject.card.n_heads)
    samples = {name: np.zeros(shape) for name in SCORES}

    def look(layer: int, pattern: Tensor) -> None:
        for name, values in score(pattern).items():
            samples[name][:, layer] = values.cpu().numpy()

    each_pattern(subject, ids, look)
    return samples
