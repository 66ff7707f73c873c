"""The search of texts of any length, in windows that overlap: every match is found exactly once,
and memory does not grow with the corpus.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from workbench.privacy.kind import Kind
from workbench.privacy.kinds import Match, matches

WINDOW = 1 << 20
"""Characters that are searched at once."""
OVERLAP = 1 << 15
"""Characters at a window's end that are left to the next window; more than twice any match."""
CONTEXT = 128
"""Characters before a window that patterns may look back to, and that were searched before."""
SEPARATOR = "\0"
"""What stands between separate texts in a window; no pattern matches it."""


class Part(NamedTuple):
    """A part of a text.

    - `text`: its characters
    - `begins`: whether a document begins with it
    - `separate`: whether it belongs to another text than the part before it, so that no match may
      span both
    - `source`: the file or set that it is from
    """

    text: str
    begins: bool = False
    separate: bool = False
    source: str = ""


class Start(NamedTuple):
    """Where a document begins: its place in the buffer, its number from 0, and its source."""

    place: int
    document: int
    source: str


class Hit(NamedTuple):
    """One datum: its kind and text, the number of its document and its place there, both from 0."""

    kind: Kind
    value: str
    document: int
    position: int
    source: str


class _Block(NamedTuple):
    """Parts joined into one text, the documents that begin in it, and whether it is the last."""

    text: str
    starts: list[Start]
    last: bool


def search(parts: Iterable[Part], kinds: Sequence[Kind], *, window: int = WINDOW) -> Iterator[Hit]:
    """Everything of these kinds in a stream of parts, in order.

    Args:
        parts: The parts of the texts; the first one begins a document.
        kinds: What to look for; where two match the same characters, the earlier one wins.
        window: Characters that are searched at once, beyond the overlap.
    """
    buffer = ""
    at = 0  # where the search of the buffer goes on
    starts = [Start(0, 0, "")]
    for block in _blocks(parts, window):
        starts += [start._replace(place=start.place + len(buffer)) for start in block.starts]
        buffer += block.text
        cut = len(buffer) if block.last else max(at, len(buffer) - OVERLAP)
        done = cut
        places = [start.place for start in starts]
        for match in matches(buffer, kinds, at):
            if match.start >= cut:
                break
            start = starts[bisect_right(places, match.start) - 1]
            value = buffer[match.start : match.end]
            yield Hit(match.kind, value, start.document, match.start - start.place, start.source)
            done = max(done, match.end)
        dropped = max(0, done - CONTEXT)
        buffer = buffer[dropped:]
        at = done - dropped
        first = max(0, bisect_right(places, done) - 1)
        starts = [start._replace(place=start.place - dropped) for start in starts[first:]]


def rewritten(
    parts: Iterable[Part], kinds: Sequence[Kind], *, window: int = WINDOW
) -> Iterator[str]:
    """The text of a stream, in pieces, with placeholders for everything of these kinds.

    `SEPARATOR` stands between separate texts. A window is redacted until nothing more is found in
    it, since the characters beside a datum may match another kind once the datum is gone.
    Redacting the result again therefore changes nothing.

    Args:
        parts: The parts of the texts.
        kinds: What to replace; where two match the same characters, the earlier one wins.
        window: Characters that are searched at once, beyond the overlap.
    """
    buffer = ""
    at = 0  # where the search of the buffer goes on
    for block in _blocks(parts, window):
        buffer += block.text
        cut = len(buffer) if block.last else max(at, len(buffer) - OVERLAP)
        while hits := [match for match in matches(buffer, kinds, at) if match.start < cut]:
            head = _with_placeholders(buffer, hits)
            end = hits[-1].end
            cut = len(head) + max(0, cut - end)
            buffer = head + buffer[end:]
        if cut > at:
            yield buffer[at:cut]
        dropped = max(0, cut - CONTEXT)
        buffer = buffer[dropped:]
        at = cut - dropped


def _with_placeholders(text: str, hits: Sequence[Match]) -> str:
    """The text up to the last hit's end, with each hit replaced by its kind's placeholder."""
    pieces: list[str] = []
    end = 0
    for match in hits:
        pieces += [text[end : match.start], match.kind.placeholder]
        end = match.end
    return "".join(pieces)


def _blocks(parts: Iterable[Part], size: int) -> Iterator[_Block]:
    """Parts joined into blocks of about `size` characters; the last one is marked."""
    texts: list[str] = []
    starts: list[Start] = []
    length = 0
    documents = -1
    empty = True
    for part in parts:
        if part.separate and not empty:
            texts.append(SEPARATOR)
            length += 1
        if part.begins:
            documents += 1
            starts.append(Start(length, documents, part.source))
        text = part.text.replace(SEPARATOR, "\ufffd") if SEPARATOR in part.text else part.text
        texts.append(text)
        length += len(text)
        empty = False
        if length >= size:
            yield _Block("".join(texts), starts, last=False)
            texts = []
            starts = []
            length = 0
    yield _Block("".join(texts), starts, last=True)
