"""Exposure: how much likelier a model finds a canary than the values that might stand in its place.

Reference: Carlini, Liu, Erlingsson, Kos and Song 2019, The Secret Sharer (arXiv 1802.08232).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.errors import WorkbenchError
from workbench.privacy.scores import Progress, row_scores
from workbench.statistics import blaker
from workbench.subjects import Subject

EXACT = 100_000
"""Values up to which every one is read; of a larger space `SAMPLED` are drawn."""
SAMPLED = 10_000
CLOSE = 1e-6
"""Nats up to which two values are equally likely."""


@dataclass(frozen=True)
class Canary:
    """A text that holds a value drawn at random, and the space that it was drawn from.

    - `text`: with "{}" where the value stands
    - `value`: as it was planted
    - `alphabet`: the characters each of its places was drawn from, all equally likely
    """

    text: str
    value: str
    alphabet: str = "0123456789"

    @property
    def space(self) -> int:
        """|R|: how many values there are."""
        return len(set(self.alphabet)) ** len(self.value)


@dataclass(frozen=True)
class Exposure:
    """The exposure of one canary, in bits.

    - `rank`: of its value among all by likelihood, 1 the likeliest; estimated where values were
      drawn
    - `exposure`: log2 |R| - log2 rank, with its 95 % interval; `low` and `high` are equal where
      every value was read. Drawn values cannot show more than log2 of their number
    - `n`: values that were read beside it
    """

    text: str
    value: str
    space: int
    rank: float
    exposure: float
    low: float
    high: float
    exact: bool
    n: int


def exposure(
    subject: Subject, canary: Canary, *, seed: int = 0, progress: Progress | None = None
) -> Exposure:
    """The exposure of a canary: exact up to `EXACT` values, else from `SAMPLED` drawn ones.

    Args:
        subject: The model.
        canary: The text, its value and the space that it is from.
        seed: Of the values that are drawn.
        progress: Told the share that is done.

    Raises:
        WorkbenchError: For a canary without a place, whose value is not of its alphabet, or that is
            longer than the context.
    """
    check_canary(canary)
    exact = canary.space <= EXACT
    others = _all(canary) if exact else _drawn(canary, seed)
    rows = [subject.ids(canary.text.replace("{}", value)) for value in [canary.value, *others]]
    longest = max(map(len, rows))
    if longest > subject.n_ctx:
        raise WorkbenchError(
            f"The canary {canary.text!r} has {longest} tokens and {subject.name} reads "
            f"{subject.n_ctx}; give a shorter one."
        )
    scores = row_scores(subject, rows, progress=progress)
    likely = np.array([row.log_prob.sum() for row in scores])
    above = int((likely[1:] > likely[0] + CLOSE).sum())
    level = int((np.abs(likely[1:] - likely[0]) <= CLOSE).sum())
    bits = math.log2(canary.space)
    if exact:
        rank = 1 + above + level / 2
        value = bits - math.log2(rank)
        low = high = value
    else:
        n = len(others)
        hits = above + level  # those that are as likely count against it
        share = (hits + 1) / (n + 1)
        rank, value = max(1.0, share * canary.space), min(bits, -math.log2(share))
        least, most = blaker(hits, n)
        low, high = -math.log2(most), min(bits, -math.log2(max(least, 1 / canary.space)))
    return Exposure(
        canary.text, canary.value, canary.space, rank, value, low, high, exact, len(others)
    )


def check_canary(canary: Canary) -> None:
    """Raise `WorkbenchError` for a canary that says too little, or something that cannot be."""
    if canary.text.count("{}") != 1:
        raise WorkbenchError(
            f"The canary {canary.text!r} has to say once where its value stands; write {{}} there."
        )
    strange = sorted(set(canary.value) - set(canary.alphabet))
    if not canary.value or strange:
        fault = f"holds {strange[0]!r}" if strange else "is empty"
        raise WorkbenchError(
            f"The value of the canary {canary.text!r} {fault}; draw it from the alphabet "
            f"{canary.alphabet!r}, or name another alphabet."
        )
    if canary.space < 2:
        raise WorkbenchError(
            f"The canary {canary.text!r} has one possible value; give an alphabet of two or more."
        )


def _all(canary: Canary) -> list[str]:
    letters = sorted(set(canary.alphabet))
    every = map("".join, itertools.product(letters, repeat=len(canary.value)))
    return [value for value in every if value != canary.value]


def _drawn(canary: Canary, seed: int) -> Sequence[str]:
    letters = np.array(sorted(set(canary.alphabet)))
    rng = np.random.default_rng(seed)
    drawn = rng.choice(letters, (SAMPLED, len(canary.value)))
    return [value for value in map("".join, drawn) if value != canary.value]
