"""All kinds of personal data and secrets, and the search of one text for them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from workbench.errors import WorkbenchError
from workbench.privacy.contacts import EMAIL, PHONE
from workbench.privacy.ids import NATIONAL_ID
from workbench.privacy.kind import Kind, Prepared
from workbench.privacy.network import IP, MAC, URL_CREDENTIALS
from workbench.privacy.numbers import CARD, IBAN
from workbench.privacy.secrets import API_KEY, JWT, PRIVATE_KEY, SECRET

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *(PRIVATE_KEY, JWT, API_KEY, URL_CREDENTIALS, EMAIL, IBAN, CARD),
        *(NATIONAL_ID, IP, MAC, PHONE, SECRET),
    )
}
"""Every kind by its name; where two match the same characters, the earlier one wins."""

_SPACES = "\u00a0\u2007\u2009\u202f\u2002\u2003"
_DASHES = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_ZEROS = (0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xE50, 0xED0, 0xFF10)
_PLAIN = {
    **dict.fromkeys(_SPACES, " "),
    **dict.fromkeys(_DASHES, "-"),
    **{chr(zero + digit): str(digit) for zero in _ZEROS for digit in range(10)},
    **{"＠": "@", "．": ".", "：": ":", "＋": "+", "\u2024": ".", "／": "/"},
}
"""Characters that are read as an ASCII character: digits of other scripts, spaces, dashes and
signs in full width.
"""


class Match(NamedTuple):
    """One datum in a text: from `start` up to, not including, `end`."""

    start: int
    end: int
    kind: Kind


def chosen_kinds(names: Sequence[str] | None) -> tuple[Kind, ...]:
    """The kinds of these names, in the order of `KINDS`; all kinds for None.

    Raises:
        WorkbenchError: For an unknown name, and for an empty list.
    """
    if names is None:
        return tuple(KINDS.values())
    names = [names] if isinstance(names, str) else list(names)
    unknown = [str(name) for name in names if name not in KINDS]
    if unknown or not names:
        fault = f"There is no kind {unknown[0]!r}" if unknown else "No kind is named"
        raise WorkbenchError(f"{fault} to look for; choose from {', '.join(KINDS)}.")
    return tuple(kind for name, kind in KINDS.items() if name in names)


def matches(text: str, kinds: Sequence[Kind], at: int = 0) -> list[Match]:
    """Everything of these kinds in a text at or after `at`, in order, no two overlapping.

    Digits of other scripts, and other spaces and dashes, count as those of ASCII.

    Args:
        text: The text to search.
        kinds: What to look for; where two match the same characters, the earlier one wins.
        at: The first place where a match may begin; characters before it are only context.
    """
    prepared = Prepared(_as_ascii(text))
    every = [Match(start, end, kind) for kind in kinds for start, end in kind.spans(prepared, at)]
    return _without_overlaps(every, {kind.name: place for place, kind in enumerate(kinds)})


def _as_ascii(text: str) -> str:
    """The text at the same length, with each character of `_PLAIN` replaced by its ASCII one."""
    if text.isascii():
        return text
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype=np.uint16)
    for odd in _PLAIN.keys() & set(map(chr, np.unique(units[units > 127]))):
        text = text.replace(odd, _PLAIN[odd])
    return text


def _without_overlaps(every: list[Match], priority: dict[str, int]) -> list[Match]:
    """Of matches that overlap, the longest; of equally long ones, that of the earliest kind."""
    winners: list[Match] = []
    group: list[Match] = []  # matches linked by overlaps
    reach = -1
    for match in sorted(every, key=lambda match: match.start):
        if match.start >= reach:
            winners += _winners_of(group, priority)
            group = []
        group.append(match)
        reach = max(reach, match.end)
    return winners + _winners_of(group, priority)


def _winners_of(group: list[Match], priority: dict[str, int]) -> list[Match]:
    """The matches of one group that stay when the longest takes its place first, in order."""
    if len(group) < 2:
        return group
    winners: list[Match] = []
    order = sorted(group, key=lambda m: (m.start - m.end, priority[m.kind.name], m.start))
    for match in order:
        if all(match.end <= other.start or match.start >= other.end for other in winners):
            winners.append(match)
    return sorted(winners, key=lambda match: match.start)
