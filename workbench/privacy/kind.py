"""Kind: one sort of personal data or secret, as a name, a pattern, a check and a mask; and where a
text holds it.

Looking costs little on clean text. A text is first written as its *skeleton*, one byte a character
(every digit "0", every letter "a" or "f"), and the dear pattern of a kind is tried only around its
*seeds* in there. A seed begins with one fixed byte that running text seldom has, for which Python's
`re` searches at a gigabyte a second, where a class of characters costs ten times as much.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HIDDEN = "•"
"""What a mask shows in place of a letter or a digit."""
BEFORE, AFTER = 72, 320
"""Characters around a seed in which a kind is looked for, where it says nothing else."""
SHORTER = 4
"""How often a match that fails its check is tried without its last word."""
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
"""What each byte becomes: digits "0", hexadecimal letters "f", other letters "a", "=" ":"."""
DIGITS = re.compile(rb"0(?:[ \-.()/\n]{0,3}0){5,200}")
"""The seed of numbers: six digits or more with little between them."""


@dataclass(frozen=True)
class Kind:
    """One sort of personal data or secret.

    - `name`: in lower case; its placeholder is the name in capitals and brackets
    - `words`: what it is, for people
    - `pattern`: what it looks like; the group `value` is the datum, where there is more to match.
      Every repetition in it is bounded, and it never matches a bracket or NUL
    - `seeds`: every such datum holds one of them: patterns of the skeleton, or strings of the text
    - `check`: whether a match is one indeed (checksums, valid ranges, what stands beside it)
    - `mask`: the datum with what identifies it hidden
    - `before`, `after`: how far a match may reach before and after its seeds, in characters
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
        """What stands in place of such a datum in a redacted text."""
        return f"[{self.name.upper()}]"

    def spans(self, text: "Prepared", at: int = 0) -> Iterator[tuple[int, int]]:
        """Start and end of every such datum at or after `at`, in order.

        What stands before `at` is seen by look-behinds, but not matched.
        """
        grouped = "value" in self.pattern.groupindex
        for start, end in self._regions(text, at):
            here = start
            while match := self.pattern.search(text.text, here, end):
                whole = match.end() < end or end == len(text.text)  # else the region cut it off
                fitting = self._fitting(match) if whole else None
                if fitting is not None:
                    yield fitting.span("value") if grouped else fitting.span()
                    here = max(fitting.end(), here + 1)
                else:
                    here = match.start() + 1

    def _fitting(self, match: re.Match[str]) -> re.Match[str] | None:
        """The match, or its longest beginning that passes the check: numbers stand in rows."""
        found: re.Match[str] | None = match
        for _ in range(SHORTER):
            if found is None or self.check(found):
                return found
            cut = max(found[0].rfind(" "), found[0].rfind("\n"))
            stop = found.start() + max(0, cut)
            found = self.pattern.fullmatch(found.string, found.start(), stop)
        return None

    def _regions(self, text: "Prepared", at: int) -> Iterator[tuple[int, int]]:
        """Parts of the text around seeds, those that touch as one."""
        found = [text.seeds(seed, at) for seed in self.seeds]
        seeds = found[0] if len(found) == 1 else sorted(span for spans in found for span in spans)
        start, end = -1, -1
        for first, last in seeds:
            low, high = max(at, first - self.before), min(len(text.text), last + self.after)
            if low > end:
                if end >= 0:
                    yield start, end
                start = low
            end = max(end, high)
        if end >= 0:
            yield start, end


class Prepared:
    """A text in which kinds are looked for: itself, its skeleton, and the seeds found so far."""

    def __init__(self, text: str):
        self.text = text
        self._bytes = text.encode("latin-1", "replace")
        self.skeleton = self._bytes.translate(SKELETON)
        self._known: dict[tuple[str | re.Pattern[bytes], int], list[tuple[int, int]]] = {}

    def seeds(self, seed: str | re.Pattern[bytes], at: int) -> list[tuple[int, int]]:
        """Start and end of a seed wherever it stands at or after `at`; several kinds share some."""
        key = (seed, at)
        if key not in self._known:
            self._known[key] = (
                list(self._literals(seed, at))
                if isinstance(seed, str)
                else [match.span() for match in seed.finditer(self.skeleton, at)]
            )
        return self._known[key]

    def _literals(self, literal: str, at: int) -> Iterator[tuple[int, int]]:
        wanted = literal.encode("ascii")
        place = self._bytes.find(wanted, at)
        while place >= 0:
            yield place, place + len(wanted)
            place = self._bytes.find(wanted, place + len(wanted))


def hidden(value: str, *, first: int = 0, last: int = 0) -> str:
    """The value with its letters and digits hidden but for the `first` and the `last` of them.

    Where fewer than four would be hidden, all are.
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
    """Whether one of these words stands in the text just before a match."""
    start = match.start()
    return words.search(match.string, max(0, start - before), start) is not None


def digits(text: str) -> str:
    """The digits of a text, without what separates them."""
    return re.sub(r"[^0-9]", "", text)
