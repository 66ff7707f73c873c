"""Head statistics of encoders and encoder-decoders: those that have a meaning in each attention.

Without a causal mask a token sees what comes after it, so nothing has to be guessed from an earlier
copy and there is no induction; what remains is where a head looks: before, after, at copies, at the
ends. In cross-attention positions of two texts are compared, so distances have no meaning, and what
counts is whether a head looks at the token that is written next.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.patterns.measures import entropy
from workbench.interp.stacks.runs import Stacks, stacks_of
from workbench.interp.stacks.structure import CROSS, DECODER, ENCODER
from workbench.interp.stacks.texts import Texts, written_ids
from workbench.subjects import Subject
from workbench.subjects.kinds import SEQ2SEQ
from workbench.subjects.spelling import frame

_PREVIOUS = {"previous_token_score": "attention to the token just before"}
_FIRST = {"first_token_attention": "attention to the first token"}
_LAST = {"last_token_attention": "attention to the last token of the text, often a separator"}
_ENTROPY = {"attention_entropy": "entropy of the pattern's rows, in bits"}
PART_SCORES: dict[str, dict[str, str]] = {
    ENCODER: {
        **_PREVIOUS,
        "next_token_score": "attention to the token just after",
        "duplicate_token_score": "attention to other copies of the token, before or after",
        **_FIRST,
        **_LAST,
        **_ENTROPY,
        "mean_distance": "how far away the attention lies on average, either way, in tokens",
    },
    DECODER: {
        **_PREVIOUS,
        **_FIRST,
        **_ENTROPY,
        "mean_distance": "how far back the attention lies on average, in tokens",
    },
    CROSS: {
        "next_written_score": "attention to the places in the text of the token that is written "
        "next",
        "last_written_score": "attention to the places in the text of the token that was written "
        "last",
        **_FIRST,
        **_LAST,
        **_ENTROPY,
    },
}
"""The scores of each part in words."""


def part_scores(
    pattern: Float[Tensor, "batch head query key"],
    part: str,
    queries: Int[Tensor, "batch query"],
    keys: Int[Tensor, "batch key"],
) -> dict[str, Float[Tensor, "batch head"]]:
    """The scores of one layer's patterns.

    Args:
        pattern: The patterns.
        part: Which attention it is.
        queries: Tokens that look.
        keys: Tokens that are looked at.
    """
    rows = torch.arange(queries.shape[1], device=pattern.device)
    common = {
        "first_token_attention": pattern[..., 0].mean(-1),
        "last_token_attention": pattern[..., -1].mean(-1),
        "attention_entropy": entropy(pattern).mean(-1),
    }
    if part == CROSS:
        places = (queries[:, :, None] == keys[:, None]).to(pattern.dtype)  # [batch, query, key]
        scores = {
            "next_written_score": _on(pattern[:, :, :-1], places[:, 1:]),
            "last_written_score": _on(pattern, places),
            **common,
        }
    else:
        distance = (rows[:, None] - rows).abs().to(pattern.dtype)
        copies = (queries[:, :, None] == keys[:, None]).to(pattern.dtype)
        copies = copies * (distance > 0)
        scores = {
            "previous_token_score": pattern[..., rows[1:], rows[1:] - 1].mean(-1),
            "next_token_score": pattern[..., rows[:-1], rows[:-1] + 1].mean(-1),
            "duplicate_token_score": _on(pattern, copies),
            "mean_distance": torch.einsum("bhqk,qk->bhq", pattern, distance).mean(-1),
            **common,
        }
    return {name: scores[name] for name in PART_SCORES[part]}


def _on(
    pattern: Float[Tensor, "batch head query key"], places: Float[Tensor, "batch query key"]
) -> Float[Tensor, "batch head"]:
    """Attention to some places, on average over the queries that have any; 0 if none has."""
    sums = torch.einsum("bhqk,bqk->bhq", pattern, places)
    n_queries = places.any(-1).sum(-1).clamp_min(1)
    return sums.sum(-1) / n_queries[:, None]


def part_samples(
    subject: Subject,
    part: str,
    *,
    texts: Sequence[str] | None,
    n: int,
    length: int,
    seed: int,
) -> tuple[dict[str, Float[np.ndarray, "n layer head"]], int]:
    """The scores of every sequence, and the length that was used.

    Args:
        subject: An encoder or an encoder-decoder.
        part: Which attention.
        texts: Texts to measure on, cut to `2 * length` tokens; None for random tokens given twice.
        n: Random sequences.
        length: Random tokens, before they are repeated; fewer if the context is shorter.
        seed: Of the random tokens.

    Raises:
        WorkbenchError: A text is empty, or what is written has too few tokens to look at.
    """
    stacks = stacks_of(subject)
    around = frame(subject.tokenizer)
    length = min(length, (subject.n_ctx - len(around.before) - len(around.after)) // 2)
    rows = (
        _random(subject, n, length, seed)
        if texts is None
        else [_beginning(subject, text, 2 * length) for text in texts]
    )
    samples = [_sample(stacks, _read(subject, row), part) for row in rows]
    samples = [sample for sample in samples if sample is not None]
    if not samples:
        raise WorkbenchError(
            f"No text gives {subject.name} two tokens in its {part} attention; give longer ones."
        )
    longest = length if texts is None else max(row.shape[1] for row in rows)
    return {name: np.stack([one[name] for one in samples]) for name in samples[0]}, longest


def _random(subject: Subject, n: int, length: int, seed: int) -> list[Int[Tensor, "1 pos"]]:
    """Random tokens given twice, between the special tokens that stand around a text."""
    special = set(subject.tokenizer.all_special_ids)
    n_known = min(len(subject.tokenizer), subject.card.d_vocab)
    ordinary = np.array([i for i in range(n_known) if i not in special])
    around = frame(subject.tokenizer)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        once = rng.choice(ordinary, length, replace=len(ordinary) < length).tolist()
        ids = [*around.before, *once, *once, *around.after]
        rows.append(torch.tensor([ids], device=subject.device))
    return rows


def _beginning(subject: Subject, text: str, most: int) -> Int[Tensor, "1 pos"]:
    """A text's tokens, of a long one the first and the special tokens after it."""
    if not text:
        raise WorkbenchError("One of the texts is empty; type some text.")
    after = frame(subject.tokenizer).after
    ids = subject.ids(text[: 40 * most])
    if len(ids) > most:
        ids = [*ids[: most - len(after)], *after]
    return torch.tensor([ids], device=subject.device)


def _read(subject: Subject, row: Int[Tensor, "1 pos"]) -> Texts:
    return Texts(row, written_ids(subject, row, None) if subject.kind == SEQ2SEQ else None)


def _sample(
    stacks: Stacks, texts: Texts, part: str
) -> dict[str, Float[np.ndarray, "layer head"]] | None:
    """One text's scores; None where too little is written."""
    queries = texts.queries(part)
    if queries.shape[1] < 2:
        return None
    score: Callable[[Tensor], dict[str, Tensor]] = partial(
        part_scores, part=part, queries=queries, keys=texts.keys(part)
    )
    shape = (stacks.n_layers(part), stacks.n_heads)
    scores = {name: np.zeros(shape) for name in PART_SCORES[part]}

    def see(layer: int, pattern: Tensor) -> None:
        for name, values in score(pattern).items():
            scores[name][layer] = values[0].cpu().numpy()

    stacks.look(texts, part, see)
    return scores
