"""Rows of fine-tuning: token ids, a mask of those that are learned, and padding into batches."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.subjects.spelling import bare, read, unknown_ids

IGNORED = -100


class Segment(NamedTuple):
    """A piece of text, and whether the loss counts it."""

    text: str
    learned: bool


class Row(NamedTuple):
    """Token ids, and for each whether the loss counts it; never the first: it has no context."""

    ids: list[int]
    learned: list[bool]

    @property
    def prompt(self) -> list[int]:
        """The token ids before the first learned one."""
        return self.ids[: self.learned.index(True)] if True in self.learned else self.ids

    @property
    def n_learned(self) -> int:
        """How many tokens the loss averages over."""
        return sum(self.learned)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    segments: Sequence[Segment],
    *,
    special: bool = True,
    end: bool = False,
) -> Row:
    """Segments as one row; each is tokenised alone, as a prompt is at inference.

    Args:
        tokenizer: Of the model.
        segments: In order; joined they are the text.
        special: Whether to begin with the special tokens that the tokenizer puts before a text.
        end: Whether to end with a learned end-of-text token, if the tokenizer has one.
    """
    ids: list[int] = []
    learned: list[bool] = []
    for number, segment in enumerate(segments):
        part = (read if special and number == 0 else bare)(tokenizer, segment.text)
        ids += part
        learned += [segment.learned] * len(part)
    if end and tokenizer.eos_token_id is not None:
        ids.append(cast(int, tokenizer.eos_token_id))
        learned.append(True)
    if learned:
        learned[0] = False
    return Row(ids, learned)


def collate(rows: Sequence[Row]) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """A batch of rows padded on the right; targets are the next tokens, -100 where not learned."""
    width = max(len(row.ids) for row in rows) - 1
    inputs = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.full((len(rows), width), IGNORED)
    for i, row in enumerate(rows):
        ids = torch.tensor(row.ids)
        inputs[i, : len(ids) - 1] = ids[:-1]
        targets[i, : len(ids) - 1] = ids[1:].masked_fill(~torch.tensor(row.learned[1:]), IGNORED)
    return inputs, targets


def check_vocabulary(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, d_vocab: int, base: str
) -> None:
    """Check that the model knows all tokens and that the tokenizer can spell the answers.

    Args:
        rows: All rows of a fine-tune.
        tokenizer: Of the base.
        d_vocab: Tokens that the base knows.
        base: Its name, for messages.

    Raises:
        WorkbenchError: For a token beyond the vocabulary, or an answer with unknown tokens.
    """
    highest = max((max(row.ids) for row in rows if row.ids), default=0)
    if highest >= d_vocab:
        raise WorkbenchError(
            f"The tokenizer of {base} gives token {highest}, and the model knows {d_vocab} tokens; "
            "they do not belong together, so choose a base whose tokenizer is its own."
        )
    unknown = unknown_ids(tokenizer)
    for row in rows:
        for run in _learned_runs(row):
            body = run[:-1] if run[-1] == tokenizer.eos_token_id else run
            if unknown.intersection(body):
                raise WorkbenchError(
                    f"The vocabulary of {base} cannot spell the answer {tokenizer.decode(body)!r} "
                    "(a character of it has no token); choose a base whose tokenizer knows it, "
                    "or other data."
                )


def _learned_runs(row: Row) -> list[list[int]]:
    """The maximal runs of learned token ids."""
    runs = groupby(zip(row.ids, row.learned, strict=True), key=lambda pair: pair[1])
    return [[token for token, _ in pairs] for learned, pairs in runs if learned]
