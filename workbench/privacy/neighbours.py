"""Prompts that do not lead to a canary's value, and held-out rows to measure the cost on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.sources import reference_ids
from workbench.privacy.exposure import Canary
from workbench.privacy.rows import Rows, known_rows, rows_of_texts
from workbench.privacy.spelt import Spelt, spelt
from workbench.subjects import Subject
from workbench.subjects.spelling import spells_ids

REFERENCE = 48
"""Tokens of each paragraph of the books that stand in for unknown held-out rows."""
ENOUGH = 24
"""The fewest rows of which one half gives neighbours and means, and the other half the loss."""


class HeldOut(NamedTuple):
    """Rows that a model never saw, without those that hold the canary's own words.

    - `reference`: rows that neighbours and means are taken from
    - `measured`: rows that the loss is measured on; the same ones where there are few
    - `where`: where they come from, in words
    """

    reference: Rows
    measured: Rows
    where: str


def held_out_rows(
    subject: Subject, canary: Canary, held_out: Sequence[str] | None, n: int, seed: int
) -> HeldOut:
    """Texts that are given, else the held-out rows of the run, else paragraphs of books.

    Args:
        subject: The model; a run (`run:ID`) has its own rows.
        canary: The canary; rows with the words before its value are left out.
        held_out: Texts that the model never saw; None for its own.
        n: The most rows.
        seed: Seed of the draw from a run's rows.

    Raises:
        WorkbenchError: Fewer than two rows are left.
    """
    if held_out is not None:
        rows = rows_of_texts(subject, held_out, n)
        where = "texts that were given"
    else:
        known = known_rows(subject, None, None, n, seed)
        rows = known.held_out
        where = f"held-out {known.where}"
    if not rows:
        rows = reference_ids(subject, min(REFERENCE, subject.n_ctx)).tolist()
        reads = not spells_ids(subject.tokenizer)
        where = "paragraphs of public-domain books" if reads else "random tokens"
    words = canary.text.partition("{}")[0].strip()
    rows = [row for row in rows if not words or words not in subject.text(torch.tensor(row))]
    if len(rows) < 2:
        raise WorkbenchError(
            f"The held-out rows are {len(rows)} without the words {words!r} of the canary, and two "
            "are needed; give other texts as held_out."
        )
    half = len(rows) // 2 if len(rows) >= ENOUGH else 0
    return HeldOut(rows[half:], rows[:half] or rows, where)


def neighbours_of(
    subject: Subject,
    canary: Canary,
    tokens: Spelt,
    given: Sequence[str] | None,
    rows: Rows,
    n: int,
    seed: int,
) -> Int[Tensor, "neighbour pos"]:
    """Token ids of other texts of the canary's length, each with all but the value's last token.

    Args:
        subject: The model.
        canary: The canary.
        tokens: Its tokens.
        given: Texts with "{}" in the value's place; None for pieces of the rows.
        rows: Token ids of held-out rows, which are cut into pieces.
        n: The most pieces.
        seed: Seed of their draw.

    Raises:
        WorkbenchError: A given text has another length, or no row is long enough.
    """
    length = len(tokens.before)
    if given is not None:
        beginnings = [_before(subject, canary, tokens, text) for text in given]
    else:
        # What stands first in every text, if anything does, stands first in a neighbour too.
        first = tokens.before[:1] if tokens.before[0] == subject.tokenizer.bos_token_id else ()
        size = length - len(first)
        starts = ((row, at) for row in rows for at in range(0, len(row) - size + 1, max(1, size)))
        pieces = [(*first, *row[at : at + size]) for row, at in starts]
        order = np.random.default_rng(seed).permutation(len(pieces))[:n]
        beginnings = [pieces[i] for i in order]
    if not beginnings:
        raise WorkbenchError(
            f"The canary {canary.text!r} has {length} tokens before its value, and no held-out row "
            "is that long; give neighbours, or longer texts as held_out."
        )
    fed = tokens.value[:-1]
    return torch.tensor([(*begin, *fed) for begin in beginnings], device=subject.device)


def _before(subject: Subject, canary: Canary, tokens: Spelt, text: str) -> tuple[int, ...]:
    """The tokens of a given neighbour before the value."""
    other = spelt(subject, Canary(text, canary.value, canary.alphabet))
    if other.value != tokens.value or len(other.before) != len(tokens.before):
        raise WorkbenchError(
            f"The neighbour {text!r} has {len(other.before)} tokens before the value and the "
            f"canary {len(tokens.before)}; choose words of as many tokens, with the same character "
            "before {}."
        )
    return other.before
