"""Named entities: written as a list, located in the words of a text, and scored.

A list reads `Anna Lind = person; Empire State Building = location`, in the order of the text, or
`none`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

WORDED = {"PER": "person", "LOC": "location", "ORG": "organization", "MISC": "other"}
"""CoNLL-2003's abbreviations as words, which a language model knows better."""
NOTHING = "none"
PAIR = re.compile(r"(?P<mention>.*?\S) = (?P<kind>[^=;]*[^=;\s][^=;]*?)(?:; |$)", re.DOTALL)
"""One entity of a list; its mention may itself contain "=" and ";"."""

Span = tuple[str, int, int]
"""Type, first word, last word."""


def spans(tags: list[str]) -> list[Span]:
    """The entities of a BIO (or I-scheme) tag sequence, types in lower case."""
    from seqeval.metrics.sequence_labeling import get_entities

    # Every entity that seqeval returns has a type; its stub also allows None.
    entities = cast("list[tuple[str, int, int]]", get_entities(tags))
    return [(WORDED.get(kind, kind.lower()), first, last) for kind, first, last in entities]


def bio(entities: Sequence[Span], n_words: int) -> list[str]:
    """Entities as BIO tags, one per word."""
    tags = ["O"] * n_words
    for kind, first, last in entities:
        tags[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
    return tags


def listed(words: Sequence[str], entities: Sequence[Span]) -> str:
    """Entities as the list that a model is trained to write; `none` where there are none."""
    items = [f"{' '.join(words[first : last + 1])} = {kind}" for kind, first, last in entities]
    return "; ".join(items) or NOTHING


@dataclass(frozen=True)
class Judged:
    """A model's list of entities, scored against the right tags.

    - `tags`: BIO tags of the listed entities that stand in the text
    - `hits`, `wrong`, `missed`: true positives, false positives and false negatives
    - `unaligned`: listed entities that the text does not contain; counted among `wrong`
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
    """A model's list of entities, scored against BIO tags.

    A list does not say which of several equal mentions it means, so each listed entity is matched
    to a right one of the same words and type while there is one left. Everything else in the list
    is a false positive, whether it stands in the text or not.

    Args:
        words: Words of the text.
        right: Right BIO tags, one per word.
        text: The model's answer, as `listed` writes it.
    """
    wanted = spans(right)
    tags, unaligned = aligned(words, text, wanted)
    hits, wrong, missed = span_counts(wanted, spans(tags))
    return Judged(tags, hits, wrong + unaligned, missed, unaligned)


def aligned(words: Sequence[str], text: str, right: Sequence[Span] = ()) -> tuple[list[str], int]:
    """BIO tags of a listed answer, and how many of its parts are not in the text.

    Listed entities that are among `right` are placed there. Each other one is placed at its first
    free occurrence after the entity listed before it, else at its first free occurrence.

    Args:
        words: Words of the text.
        text: The model's answer, as `listed` writes it.
        right: The right entities.
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
    """The (mention, type) pairs of a list, and how many of its parts are not a pair.

    A mention may contain "; ", so the mention is the longest suffix of what stands before " = "
    that occurs in the words.
    """
    claims: list[tuple[str, str]] = []
    odd = 0
    end = 0
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
    """How many parts of a list are neither blank nor `none`."""
    return sum(part.strip() not in ("", NOTHING) for part in parts)


def _places(words: Sequence[str], mention: str) -> list[tuple[int, int]]:
    """Occurrences of a mention as [first word, one past the last word)."""
    most = mention.count(" ") + 1
    ends = ((i, j) for i in range(len(words)) for j in range(i + 1, min(i + most, len(words)) + 1))
    return [(i, j) for i, j in ends if " ".join(words[i:j]) == mention]


def span_counts(right: Sequence[Span], predicted: Sequence[Span]) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of predicted entities."""
    hits = len(set(right) & set(predicted))
    return hits, len(set(predicted)) - hits, len(set(right)) - hits


def entity_f1(sums: np.ndarray) -> np.ndarray:
    """Micro F1 from summed counts `[..., (hits, wrong, missed)]`; 0 where all counts are 0."""
    hits, wrong, missed = np.moveaxis(sums, -1, 0)
    below = 2 * hits + wrong + missed
    return 2 * hits / np.where(below > 0, below, 1)
