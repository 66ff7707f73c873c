"""Kind: one sort of personal data or secret (name, pattern, check, mask), and its search in a text.

The search is fast on text without such data. A text is first written as its *skeleton*, one byte a
character (every digit "0", every letter "a" or "f"). The slow pattern of a kind is tried only
around its *seeds*, short patterns that are found in the skeleton. A seed begins with one fixed byte
that is rare in prose: Python's `re` finds such a byte at about a gigabyte a second, ten times as
fast as a class of characters.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HIDDEN = "•"
"""What a mask shows in place of a letter or a digit."""
BEFORE = 72
"""Characters before a seed that are searched for a kind, unless the kind sets its own number."""
AFTER = 320
"""Characters after a seed that are searched for a kind, unless the kind sets its own number."""
SHORTER = 4
"""How often a match is checked, each time one word shorter, before it is given up."""
SKELETON = bytes(
    ord("0")
    if 48 <= byte < 58
    else ord("f")
    if chr(byte) in "abcdefABCDEF"
    else ord("a")
    if chr(byte).isalpha()
    else ord(":")
    if chr(byte) == "="
    else byte
    for byte in range(256)
)
"""What each byte becomes in a skeleton: a digit "0", a hexadecimal letter "f", any other letter
"a", an equals sign ":"; all else stays as it is.
"""
DIGITS = re.compile(rb"0(?:[ \-.()/\n]{0,3}0){5,200}")
"""The seed of numbers: six digits or more, with at most three separators between two of them."""


@dataclass(frozen=True)
class Kind:
    """One sort of personal data or secret.

    - `name`: in lower case; the placeholder is this name in capitals and brackets
    - `words`: what it is, in plain words
    - `pattern`: what it looks like. A group `value`, if there is one, is the datum, and the rest of
      the match its surroundings. Every repetition is bounded, and no bracket or NUL is matched
    - `seeds`: every such datum contains one of these: patterns of the skeleton, or strings of the
      text
    - `check`: whether a match of the pattern is truly such a datum (by its checksum, the range of
      its values or the words before it)
    - `mask`: the datum with its identifying characters hidden
    - `before`, `after`: how far a match may reach before and after its seed, in characters
    """

    name: str
    words: str
    pattern: re.Pattern[str]
    seeds: tuple[str | re.Pattern[bytes], ...]
    check: Callable[[re.Match[str]], bool]
    mask: Callable[[str], str]
    before: int = BEFORE
    after: int = AFTER

    @property
    def placeholder(self) -> str:
        """What replaces such a datum in a redacted text, such as [EMAIL]."""
        return f"[{self.name.upper()}]"

    def spans(self, text: "Prepared", at: int = 0) -> Iterator[tuple[int, int]]:
        """Start and end of every such datum at or after `at`, in order.

        Characters before `at` are context: a look-behind sees them, but no match includes them.
        """
        grouped = "value" in self.pattern.groupindex
        for start, end in self._regions(text, at):
            here = start
            while match := self.pattern.search(text.text, here, end):
                whole = match.end() < end or end == len(text.text)  # not cut off by the region
                valid = self._valid_beginning(match) if whole else None
                if valid is not None:
                    yield valid.span("value") if grouped else valid.span()
                    here = max(valid.end(), here + 1)
                else:
                    here = match.start() + 1

    def _valid_beginning(self, match: re.Match[str]) -> re.Match[str] | None:
        """The match, or its longest beginning that passes the check; None where none passes.

        Numbers that stand in a row match as one, so words are dropped from the end one by one.
        """
        candidate: re.Match[str] | None = match
        for _ in range(SHORTER):
            if candidate is None or self.check(candidate):
                return candidate
            cut = max(candidate[0].rfind(" "), candidate[0].rfind("\n"))
            stop = candidate.start() + max(0, cut)
            candidate = self.pattern.fullmatch(candidate.string, candidate.start(), stop)
        return None

    def _regions(self, text: "Prepared", at: int) -> Iterator[tuple[int, int]]:
        """Start and end of every part of the text around seeds; parts that touch are one."""
        spans_by_seed = [text.seeds(seed, at) for seed in self.seeds]
        seeds = sorted(itertools.chain.from_iterable(spans_by_seed))
        start = -1
        end = -1
        for first, last in seeds:
            low = max(at, first - self.before)
            high = min(len(text.text), last + self.after)
            if low > end:
                if end >= 0:
                    yield start, end
                start = low
            end = max(end, high)
        if end >= 0:
            yield start, end


class Prepared:
    """A text that is searched for kinds, with its skeleton and the seeds that were found so far."""

    def __init__(self, text: str):
        self.text = text
        self._bytes = text.encode("latin-1", "replace")
        self.skeleton = self._bytes.translate(SKELETON)
        self._spans_by_seed: dict[tuple[str | re.Pattern[bytes], int], list[tuple[int, int]]] = {}

    def seeds(self, seed: str | re.Pattern[bytes], at: int) -> list[tuple[int, int]]:
        """Start and end of every place at or after `at` where a seed stands.

        The places are remembered, as several kinds share a seed.
        """
        key = (seed, at)
        if key not in self._spans_by_seed:
            self._spans_by_seed[key] = (
                list(self._literals(seed, at))
                if isinstance(seed, str)
                else [match.span() for match in seed.finditer(self.skeleton, at)]
            )
        return self._spans_by_seed[key]

    def _literals(self, literal: str, at: int) -> Iterator[tuple[int, int]]:
        """Start and end of every place at or after `at` where a string stands in the text."""
        wanted = literal.encode("ascii")
        place = self._bytes.find(wanted, at)
        while place >= 0:
            yield place, place + len(wanted)
            place = self._bytes.find(wanted, place + len(wanted))


def hidden(value: str, *, first: int = 0, last: int = 0) -> str:
    """The value with its letters and digits hidden, but for the first few and the last few.

    Where fewer than four would be hidden, all are.

    Args:
        value: The text to mask; characters other than letters and digits stay.
        first: How many letters and digits are shown at the beginning.
        last: How many letters and digits are shown at the end.
    """
    places = [i for i, character in enumerate(value) if character.isalnum()]
    if len(places) - first - last < 4:
        first = last = 0
    shown = {*places[:first], *places[len(places) - last :]}
    return "".join(
        HIDDEN if character.isalnum() and i not in shown else character
        for i, character in enumerate(value)
    )


def near(match: re.Match[str], words: re.Pattern[str], before: int = 40) -> bool:
    """Whether one of these words stands in the text just before a match.

    Args:
        match: The match, in the whole text.
        words: A pattern of the words.
        before: How many characters before the match are read; 40 is about one clause.
    """
    start = match.start()
    return words.search(match.string, max(0, start - before), start) is not None


def digits(text: str) -> str:
    """The digits of a text, without what separates them."""
    return re.sub(r"[^0-9]", "", text)
