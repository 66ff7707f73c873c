"""Named entities: listed as text, found again in a text's words, and counted.

A list reads `Anna Lind = person; Empire State Building = location`, in the order of the text, or
`none`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WORDED = {"PER": "person", "LOC": "location", "ORG": "organization", "MISC": "other"}
"""Words a language model knows better than the abbreviations of CoNLL-2003."""
NOTHING = "none"
PAIR = re.compile(r"(?P<mention>.*?\S) = (?P<kind>[^=;]*[^=;\s][^=;]*?)(?:; |$)", re.DOTALL)
"""One entity of a list; its mention may hold both signs."""

Span = tuple[str, int, int]
"""Type, first word, last word."""


def spans(tags: list[str]) -> list[Span]:
    """The entities of a BIO (or I- scheme) tag sequence, as seqeval reads them, types as words in
    lower case.
    """
    from seqeval.metrics.sequence_labeling import get_entities

    return [
        (WORDED.get(kind, kind.lower()), first, last) for kind, first, last in get_entities(tags)
    ]


def bio(found: Sequence[Span], n_words: int) -> list[str]:
    """Entities as BIO tags."""
    tags = ["O"] * n_words
    for kind, first, last in found:
        tags[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
    return tags


def listed(words: Sequence[str], found: Sequence[Span]) -> str:
    """Entities as the completion lists them."""
    return "; ".join(f"{' '.join(words[a : b + 1])} = {kind}" for kind, a, b in found) or NOTHING


@dataclass(frozen=True)
class Judged:
    """A listed answer against the right tags.

    `hits`, `wrong` and `missed` are entities; `wrong` has those that are invented, too, which have
    no place among the `tags`. `unaligned` says how many those are.
    """

    tags: list[str]
    hits: int
    wrong: int
    missed: int
    unaligned: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """Hits, wrong, missed, as `entity_f1` takes them."""
        return self.hits, self.wrong, self.missed


def judged(words: Sequence[str], right: list[str], text: str) -> Judged:
    """A listed answer scored against BIO tags.

    A list does not say which of several equal words it means, so an entity takes a right place
    where one of its words and type is left. All else that is listed is a false positive, whether it
    stands in the text or not.

    Args:
        words: Of the text.
        right: Their tags.
        text: The answer, as `listed` writes it.
    """
    wanted = spans(right)
    tags, unaligned = aligned(words, text, wanted)
    hits, wrong, missed = span_counts(wanted, spans(tags))
    return Judged(tags, hits, wrong + unaligned, missed, unaligned)


def aligned(words: Sequence[str], text: str, right: Sequence[Span] = ()) -> tuple[list[str], int]:
    """The BIO tags of a listed answer, and how many of its parts stand nowhere in the words.

    Entities that are among `right` take those places. Each other takes its first free place behind
    the one listed before it, else its first free place.
    """
    claims, unaligned = _claims(words, text)
    places: list[Span | None] = [None] * len(claims)
    taken = [False] * len(words)
    left = list(right)
    for number, (mention, kind) in enumerate(claims):
        same = (s for s in left if s[0] == kind and " ".join(words[s[1] : s[2] + 1]) == mention)
        place = next(same, None)
        if place is not None:
            left.remove(place)
            places[number] = place
            taken[place[1] : place[2] + 1] = [True] * (place[2] + 1 - place[1])
    cursor = 0
    for number, (mention, kind) in enumerate(claims):
        place = places[number]
        if place is None:
            free = [at for at in _places(words, mention) if not any(taken[slice(*at)])]
            if not free:
                unaligned += 1
                continue
            first, end = next((at for at in free if at[0] >= cursor), free[0])
            place = places[number] = (kind, first, end - 1)
            taken[first:end] = [True] * (end - first)
        cursor = place[2] + 1
    return bio([place for place in places if place is not None], len(words)), unaligned


def _claims(words: Sequence[str], text: str) -> tuple[list[tuple[str, str]], int]:
    """The (mention, type) pairs of a list, and how many of its parts are no pair.

    A mention may have "; " in it: what stands before a type is the longest end of that part which
    the words have.
    """
    claims: list[tuple[str, str]] = []
    odd = end = 0
    for pair in PAIR.finditer(text):
        parts = pair["mention"].split("; ")
        ends = ["; ".join(parts[i:]).strip(" ") for i in range(len(parts))]
        used = next(
            (i for i, mention in enumerate(ends) if _places(words, mention)), len(parts) - 1
        )
        odd += _n_telling(parts[:used])
        claims.append((ends[used], pair["kind"].strip().lower()))
        end = pair.end()
    return claims, odd + _n_telling(text[end:].split("; "))


def _n_telling(parts: Sequence[str]) -> int:
    """How many parts of a list say something."""
    return sum(part.strip() not in ("", NOTHING) for part in parts)


def _places(words: Sequence[str], mention: str) -> list[tuple[int, int]]:
    """Where a mention stands: the first word, and the one after the last."""
    most = mention.count(" ") + 1
    ends = ((i, j) for i in range(len(words)) for j in range(i + 1, min(i + most, len(words)) + 1))
    return [(i, j) for i, j in ends if " ".join(words[i:j]) == mention]


def span_counts(right: Sequence[Span], said: Sequence[Span]) -> tuple[int, int, int]:
    """Entities found, wrongly named, and missed."""
    both = len(set(right) & set(said))
    return both, len(set(said)) - both, len(set(right)) - both


def entity_f1(sums: np.ndarray) -> np.ndarray:
    """Micro F1 from summed counts `[..., (hits, wrong, missed)]`; 0 where nothing was named or to
    be named.
    """
    hits, wrong, missed = np.moveaxis(sums, -1, 0)
    below = 2 * hits + wrong + missed
    return 2 * hits / np.where(below > 0, below, 1)
