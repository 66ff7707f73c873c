"""Exposure: how much likelier a model finds a canary than other values in its place.

Reference: Carlini, Liu, Erlingsson, Kos and Song 2019, The Secret Sharer (arXiv 1802.08232).
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from workbench.errors import WorkbenchError
from workbench.privacy.scores import Progress, row_scores
from workbench.statistics import blaker
from workbench.subjects import Subject

EXACT = 100_000
"""The largest number of possible values of which every one is scored."""
SAMPLED = 10_000
"""Values that are drawn at random and scored where there are more than `EXACT`."""
CLOSE = 1e-6
"""Two values count as equally likely where their log-probabilities differ by no more nats."""


@dataclass(frozen=True)
class Canary:
    """A text that holds a random value, and the characters that the value was drawn from.

    - `text`: the text, with "{}" where the value stands
    - `value`: the value that was planted
    - `alphabet`: the characters that each place of the value was drawn from, all equally likely
    """

    text: str
    value: str
    alphabet: str = "0123456789"

    @property
    def space(self) -> int:
        """How many values are possible; |R| in the paper."""
        return len(set(self.alphabet)) ** len(self.value)


@dataclass(frozen=True)
class Exposure:
    """The exposure of one canary, in bits.

    - `text`, `value`: those of the canary; `space`: how many values are possible
    - `rank`: the value's rank by likelihood among all possible ones, 1 for the likeliest;
      estimated where values were drawn
    - `exposure`: log2 of `space` minus log2 of `rank`; a sample of values cannot show more than
      log2 of its size
    - `low`, `high`: ends of its 95 % interval; both equal `exposure` where every value was scored
    - `exact`: whether every possible value was scored
    - `n`: how many other values were scored
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
    """The exposure of a canary: exact up to `EXACT` possible values, else estimated from a sample.

    Args:
        subject: The model.
        canary: The text, its value and the characters that it was drawn from.
        seed: Seed of the draw where there are too many values to score all.
        progress: Called with the share that is done, from 0 to 1, and a few words.

    Raises:
        WorkbenchError: For a canary that `check_canary` rejects or that is longer than the context.
    """
    check_canary(canary)
    exact = canary.space <= EXACT
    others = _all_others(canary) if exact else _drawn_others(canary, seed)
    rows = [subject.ids(canary.text.replace("{}", value)) for value in [canary.value, *others]]
    longest = max(map(len, rows))
    if longest > subject.n_ctx:
        raise WorkbenchError(
            f"The canary {canary.text!r} has {longest} tokens and {subject.name} reads "
            f"{subject.n_ctx}; give a shorter one."
        )
    scores = row_scores(subject, rows, progress=progress)
    log_probs = np.array([row.log_prob.sum() for row in scores])  # the canary's own first
    likelier = int((log_probs[1:] > log_probs[0] + CLOSE).sum())
    equal = int((np.abs(log_probs[1:] - log_probs[0]) <= CLOSE).sum())
    bits = math.log2(canary.space)
    if exact:
        rank = 1 + likelier + equal / 2
        value = bits - math.log2(rank)
        low = high = value
    else:
        n = len(others)
        ahead = likelier + equal  # equally likely values count against the canary
        share = (ahead + 1) / (n + 1)
        rank = max(1.0, share * canary.space)
        value = min(bits, -math.log2(share))
        share_low, share_high = blaker(ahead, n)
        low = -math.log2(share_high)
        high = min(bits, -math.log2(max(share_low, 1 / canary.space)))
    return Exposure(
        canary.text, canary.value, canary.space, rank, value, low, high, exact, len(others)
    )


def check_canary(canary: Canary) -> None:
    """Check that a canary can be measured.

    Raises:
        WorkbenchError: For a text without exactly one "{}", for a value that is empty or not of its
            alphabet, and where only one value is possible.
    """
    if canary.text.count("{}") != 1:
        raise WorkbenchError(
            f"The canary {canary.text!r} has to show its value's place once; write {{}} there."
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


def _all_others(canary: Canary) -> list[str]:
    """Every possible value but the canary's own."""
    letters = sorted(set(canary.alphabet))
    values = map("".join, itertools.product(letters, repeat=len(canary.value)))
    return [value for value in values if value != canary.value]


def _drawn_others(canary: Canary, seed: int) -> list[str]:
    """Values drawn at random with replacement, without those that are the canary's own."""
    letters = np.array(sorted(set(canary.alphabet)))
    rng = np.random.default_rng(seed)
    drawn = rng.choice(letters, (SAMPLED, len(canary.value)))
    return [value for value in map("".join, drawn) if value != canary.value]
