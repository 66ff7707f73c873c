"""Named entities: listed as text, found again in a text's words, and counted.

A list reads `Anna Lind = person; Empire State Building = location`, in the order of the text, or `none`.
"""

from collections.abc import Sequence

import numpy as np

WORDED = {"PER": "person", "LOC": "location", "ORG": "organization", "MISC": "other"}
"""Words a language model knows better than the abbreviations of CoNLL-2003."""
NOTHING = "none"

Span = tuple[str, int, int]
"""Type, first word, last word."""


def spans(tags: list[str]) -> list[Span]:
    """The entities of a BIO (or I- scheme) tag sequence, as seqeval reads them, types as words."""
    from seqeval.metrics.sequence_labeling import get_entities

    return [(WORDED.get(kind, kind), first, last) for kind, first, last in get_entities(tags)]


def bio(found: Sequence[Span], n_words: int) -> list[str]:
    """Entities as BIO tags."""
    tags = ["O"] * n_words
    for kind, first, last in found:
        tags[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
    return tags


def listed(words: Sequence[str], found: Sequence[Span]) -> str:
    """Entities as the completion lists them."""
    return "; ".join(f"{' '.join(words[a : b + 1])} = {kind}" for kind, a, b in found) or NOTHING


def aligned(words: Sequence[str], text: str) -> tuple[list[str], int]:
    """The BIO tags of a listed answer, and how many of its entities stand nowhere in the words.

    Each entity takes its first place behind the one before it, else its first free place.
    """
    found: list[Span] = []
    taken = [False] * len(words)
    cursor = unaligned = 0
    for part in text.split("; "):
        mention, equals, kind = part.rpartition(" = ")
        if not equals or not mention.strip() or not kind.strip():
            unaligned += part.strip() not in ("", NOTHING)
            continue
        wanted = mention.split()
        places = [i for i in range(len(words) - len(wanted) + 1) if list(words[i : i + len(wanted)]) == wanted]
        free = [i for i in places if not any(taken[i : i + len(wanted)])]
        if not free:
            unaligned += 1
            continue
        at = next((i for i in free if i >= cursor), free[0])
        cursor = at + len(wanted)
        taken[at:cursor] = [True] * len(wanted)
        found.append((kind.strip().lower(), at, cursor - 1))
    return bio(sorted(found, key=lambda span: span[1]), len(words)), unaligned


def span_counts(right: Sequence[Span], said: Sequence[Span]) -> tuple[int, int, int]:
    """Entities found, wrongly named, and missed."""
    both = len(set(right) & set(said))
    return both, len(set(said)) - both, len(set(right)) - both


def entity_f1(sums: np.ndarray) -> np.ndarray:
    """Micro F1 from summed counts `[..., (hits, wrong, missed)]`; 0 where nothing was named or to be named."""
    hits, wrong, missed = np.moveaxis(sums, -1, 0)
    below = 2 * hits + wrong + missed
    return 2 * hits / np.where(below > 0, below, 1)
