"""Texts of any length looked through in windows that overlap: no match is lost or seen twice, and
memory does not grow with the corpus.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from workbench.privacy.kind import Kind
from workbench.privacy.kinds import matches

WINDOW = 1 << 20
"""Characters that are looked through at once."""
OVERLAP = 1 << 15
"""Characters at a window's end that are left to the next one; no match is half as long."""
CONTEXT = 128
"""Characters before a window that are seen but were judged already."""
APART = "\0"
"""What separates texts in a window; no pattern matches it."""


class Part(NamedTuple):
    """A part of a text.

    - `begins`: a document begins with it
    - `apart`: it has nothing to do with the text before it, so that no match reaches over
    - `source`: the file or set that it is from
    """

    text: str
    begins: bool = False
    apart: bool = False
    source: str = ""


class Start(NamedTuple):
    """Where a document begins: the place in the buffer, its number from 0, and its source."""

    place: int
    document: int
    source: str


class Hit(NamedTuple):
    """One datum: its kind, its text, its document's number and its place there, both from 0."""

    kind: Kind
    value: str
    document: int
    position: int
    source: str


class _Block(NamedTuple):
    text: str
    starts: list[Start]
    last: bool


def search(parts: Iterable[Part], kinds: Sequence[Kind], *, window: int = WINDOW) -> Iterator[Hit]:
    """Everything of these kinds in a stream of parts, in order.

    Args:
        parts: The texts; the first one begins a document.
        kinds: What to look for, in the order in which they win.
        window: Characters that are looked through at once, beyond the overlap.
    """
    held, at, starts = "", 0, [Start(0, 0, "")]
    for block in _blocks(parts, window):
        starts += [start._replace(place=start.place + len(held)) for start in block.starts]
        held += block.text
        cut = len(held) if block.last else max(at, len(held) - OVERLAP)
        done = cut
        places = [start.place for start in starts]
        for match in matches(held, kinds, at):
            if match.start >= cut:
                break
            start = starts[bisect_right(places, match.start) - 1]
            value = held[match.start : match.end]
            yield Hit(match.kind, value, start.document, match.start - start.place, start.source)
            done = max(done, match.end)
        keep = max(0, done - CONTEXT)
        held, at = held[keep:], done - keep
        first = max(0, bisect_right(places, done) - 1)
        starts = [start._replace(place=start.place - keep) for start in starts[first:]]


def rewritten(
    parts: Iterable[Part], kinds: Sequence[Kind], *, window: int = WINDOW
) -> Iterator[str]:
    """The stream with placeholders for everything of these kinds; texts that were apart end with
    `APART`, but for the last.

    A window is redacted until nothing more is found in it, since what stood beside a datum may
    look like another once that is gone. Redacting the result again so changes nothing.

    Args:
        parts: As for `search`.
        kinds: As for `search`.
        window: As for `search`.
    """
    held, at = "", 0
    for block in _blocks(parts, window):
        held += block.text
        cut = len(held) if block.last else max(at, len(held) - OVERLAP)
        while found := [match for match in matches(held, kinds, at) if match.start < cut]:
            pieces, here = [], 0
            for match in found:
                pieces += [held[here : match.start], match.kind.placeholder]
                here = match.end
            head = "".join(pieces)
            cut = len(head) + max(0, cut - here)
            held = head + held[here:]
        keep = max(0, cut - CONTEXT)
        if cut > at:
            yield held[at:cut]
        held, at = held[keep:], cut - keep


def _blocks(parts: Iterable[Part], size: int) -> Iterator[_Block]:
    """Parts put together into blocks of about `size` characters; the last one says so."""
    texts: list[str] = []
    starts: list[Start] = []
    length, documents, empty = 0, -1, True
    for part in parts:
        if part.apart and not empty:
            texts.append(APART)
            length += 1
        if part.begins:
            documents += 1
            starts.append(Start(length, documents, part.source))
        text = part.text.replace(APART, "\ufffd") if APART in part.text else part.text
        texts.append(text)
        length += len(text)
        empty = False
        if length >= size:
            yield _Block("".join(texts), starts, last=False)
            texts, starts, length = [], [], 0
    yield _Block("".join(texts), starts, last=True)
