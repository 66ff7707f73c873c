"""All kinds of personal data and secrets that are looked for, and every one that a text holds."""

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
"""Every kind by its name; of two that fit the same characters, the first wins."""

_SPACES = "\u00a0\u2007\u2009\u202f\u2002\u2003"
_DASHES = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_ZEROS = (0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xE50, 0xED0, 0xFF10)
_PLAIN = {
    **dict.fromkeys(_SPACES, " "),
    **dict.fromkeys(_DASHES, "-"),
    **{chr(zero + digit): str(digit) for zero in _ZEROS for digit in range(10)},
    **{"＠": "@", "．": ".", "：": ":", "＋": "+", "\u2024": ".", "／": "/"},
}
"""Characters that stand for one of ASCII in addresses and numbers."""


class Match(NamedTuple):
    """One datum in a text: from `start` up to, not including, `end`."""

    start: int
    end: int
    kind: Kind


def chosen_kinds(names: Sequence[str] | None) -> tuple[Kind, ...]:
    """The kinds of these names, in the order in which they win; all where none is named.

    Raises:
        WorkbenchError: For a name that is no kind's, and for an empty list.
    """
    if names is None:
        return tuple(KINDS.values())
    names = [names] if isinstance(names, str) else list(names)
    unknown = [str(name) for name in names if name not in KINDS]
    if unknown or not names:
        said = f"There is no kind {unknown[0]!r}" if unknown else "No kind is named"
        raise WorkbenchError(f"{said} to look for; choose from {', '.join(KINDS)}.")
    return tuple(kind for name, kind in KINDS.items() if name in names)


def matches(text: str, kinds: Sequence[Kind], at: int = 0) -> list[Match]:
    """What a text holds of these kinds at or after `at`, in order, no two overlapping.

    Digits of other scripts, and other spaces and dashes, count as those of ASCII.
    """
    prepared = Prepared(_as_ascii(text))
    found = [Match(start, end, kind) for kind in kinds for start, end in kind.spans(prepared, at)]
    return _apart(found, {kind.name: place for place, kind in enumerate(kinds)})


def _as_ascii(text: str) -> str:
    """The text of the same length, with what stands for a character of ASCII replaced by it."""
    if text.isascii():
        return text
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype=np.uint16)
    for odd in _PLAIN.keys() & set(map(chr, np.unique(units[units > 127]))):
        text = text.replace(odd, _PLAIN[odd])
    return text


def _apart(found: list[Match], priority: dict[str, int]) -> list[Match]:
    """Of matches that overlap the longest, and of equal ones that of the first kind."""
    found.sort(key=lambda match: match.start)
    kept: list[Match] = []
    group: list[Match] = []
    reach = -1
    for match in [*found, None]:
        if match is None or match.start >= reach:
            kept += _of_group(group, priority)
            group = []
        if match is not None:
            group.append(match)
            reach = max(reach, match.end)
    return kept


def _of_group(group: list[Match], priority: dict[str, int]) -> list[Match]:
    if len(group) < 2:
        return group
    kept: list[Match] = []
    order = sorted(group, key=lambda m: (m.start - m.end, priority[m.kind.name], m.start))
    for match in order:
        if all(match.end <= other.start or match.start >= other.end for other in kept):
            kept.append(match)
    return sorted(kept, key=lambda match: match.start)
