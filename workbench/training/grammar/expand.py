"""Text from patterns: `(a|b)` is one of several, `{name}` is filled in, `_` is a list's space."""

import random
import re
from collections.abc import Mapping, Sequence

_CHOICE = re.compile(r"\(([^()]*)\)")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou]|honest)")


def expand(pattern: str, draw: random.Random, slots: Mapping[str, str]) -> str:
    """A text of a pattern, with one of each `(a|b)`, the slots filled in and `a`/`an` set right.

    Args:
        pattern: With choices, which may stand within choices, and slots in braces.
        draw: Decides the choices.
        slots: What each name in braces stands for; may not hold braces.
    """
    while "(" in pattern:
        pattern = _CHOICE.sub(lambda match: draw.choice(match[1].split("|")), pattern)
    return _ARTICLE.sub(r"\1n ", pattern.format_map(slots))


def one(words: Sequence[str], draw: random.Random) -> str:
    """One of the words, with spaces for its underscores."""
    return draw.choice(words).replace("_", " ")


def pair(words: Sequence[str], draw: random.Random) -> tuple[str, str]:
    """Both halves of one of the words, which are parted by a stroke."""
    first, _, second = one(words, draw).partition("/")
    return first, second


def capital(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]
