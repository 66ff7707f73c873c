"""Scan: what a corpus holds of personal data and secrets, by kind, with masked examples; and the
corpus without them.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from workbench.data.notes import Notes
from workbench.privacy.kinds import KINDS, chosen_kinds
from workbench.privacy.sources import Source, named, parts_of
from workbench.privacy.stream import Hit, Part, rewritten, search
from workbench.provenance import provenance
from workbench.records import Record, stamp
from workbench.training.texts import files

EXAMPLES = 5
"""Masked examples that are kept of each kind."""
STEP = 1 << 20
"""Characters after which progress is told."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Example:
    """One datum, masked, and where it stands.

    - `document`: the number of its document, from 0; `position`: its first character there, from 0
    - `source`: the file or set it is from
    """

    kind: str
    masked: str
    document: int
    position: int
    source: str


@dataclass(frozen=True)
class Scan(Record):
    """What a corpus holds of personal data and secrets; never the data themselves.

    - `counts`: how many of each kind, those that were looked for and not found with 0
    - `documents`: in how many documents each kind stands; `with_any`: in how many any does
    - `n`: documents; `characters` and `bytes` (UTF-8) of them all
    - `examples`: the first few of each kind, masked
    - `remarks`: what the reader assumed or left out
    - `seconds`: of one processor that it took, reading included
    """

    source: str
    counts: dict[str, int]
    documents: dict[str, int]
    with_any: int
    n: int
    characters: int
    bytes: int
    examples: list[Example] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """The share of documents that hold anything."""
        return self.with_any / self.n if self.n else float("nan")

    def headline(self) -> str:
        """What was found, in a few words."""
        found = sorted(((n, kind) for kind, n in self.counts.items() if n), reverse=True)
        if not found:
            return f"nothing of {len(self.counts)} kinds in {self.bytes / 1e6:.1f} MB"
        words = ", ".join(f"{n:,} {kind}" for n, kind in found[:4])
        more = f" and {len(found) - 4} kinds more" if len(found) > 4 else ""
        return f"{words}{more}; in {self.with_any:,} documents ({self.share:.1%})"

    def to_frame(self) -> pd.DataFrame:
        """One row a kind: how many, in how many documents, what share, and the first example."""
        first = {example.kind: example.masked for example in reversed(self.examples)}
        return pd.DataFrame(
            [
                {
                    "kind": kind,
                    "found": n,
                    "documents": self.documents[kind],
                    "share": self.documents[kind] / self.n if self.n else float("nan"),
                    "example": first.get(kind, ""),
                }
                for kind, n in self.counts.items()
            ]
        )

    def examples_frame(self) -> pd.DataFrame:
        """One row an example: kind, masked text, document, position and source."""
        columns = ["kind", "masked", "document", "position", "source"]
        return pd.DataFrame([vars(example) for example in self.examples], columns=columns)


def scan(
    source: Source,
    kinds: Sequence[str] | None = None,
    *,
    column: str = "",
    progress: Progress | None = None,
) -> Scan:
    """What a corpus holds of e-mail addresses, numbers of people and money, addresses and keys.

    It is read once, in windows, so that a corpus of any size takes the same memory. Nothing is
    dropped: duplicates count as often as they stand there.

    Args:
        source: A file, folder, Hugging Face id or `generated` as a text or path; a list of paths;
            or a list of texts, each a document.
        kinds: Names of `workbench.privacy.kinds.KINDS`; all where none is given.
        column: Of tables that holds the text; "" for the usual names.
        progress: Told the share that is done, from 0 to 1.

    Raises:
        WorkbenchError: For an unknown kind, a source that cannot be read, and an empty corpus.
    """
    wanted, notes, begun = chosen_kinds(kinds), Notes(), time.thread_time()
    counted = _Counted(parts_of(source, column, notes), _size(named(source)), progress)
    tally = _Tally([kind.name for kind in KINDS.values() if kind in wanted])
    for hit in search(counted, wanted):
        tally.add(hit)
    names = named(source)
    found = Scan(
        ", ".join(names) or "texts",
        tally.counts,
        tally.documents,
        tally.with_any,
        counted.documents,
        counted.characters,
        counted.bytes,
        tally.examples,
        notes.lines(),
        time.thread_time() - begun,
    )
    settings = {"kinds": list(tally.counts), "column": column}
    data = {"source": counted.digest.hexdigest()}
    stamp(found, provenance("workbench.scan", settings, models={}, data=data, seed=None))
    return found


def redact(texts: Iterable[str], kinds: Sequence[str] | None = None) -> list[str]:
    """The texts with a typed placeholder, such as [EMAIL], for everything that `scan` would find.

    Redacting the result again changes nothing.

    Args:
        texts: Each on its own; one text alone is a list of one.
        kinds: As for `scan`.

    Raises:
        WorkbenchError: For an unknown kind, what is no text, and where there is none.
    """
    wanted = chosen_kinds(kinds)
    texts = [texts] if isinstance(texts, str) else texts
    parts = parts_of(list(texts), "", Notes())
    return ["".join(rewritten([part], wanted)) for part in parts]


class _Tally:
    """Counts of hits that come in the order of their documents."""

    def __init__(self, names: list[str]):
        self.counts, self.documents = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        self.with_any = 0
        self.examples: list[Example] = []
        self._last, self._last_any = dict.fromkeys(names, -1), -1

    def add(self, hit: Hit) -> None:
        name = hit.kind.name
        self.counts[name] += 1
        if self._last[name] != hit.document:
            self._last[name] = hit.document
            self.documents[name] += 1
        if self._last_any != hit.document:
            self._last_any = hit.document
            self.with_any += 1
        if self.counts[name] <= EXAMPLES:
            masked = hit.kind.mask(hit.value)
            self.examples.append(Example(name, masked, hit.document, hit.position, hit.source))


class _Counted:
    """The parts that pass through, counted, hashed and told to a listener."""

    def __init__(self, parts: Iterator[Part], size: int, progress: Progress | None):
        self.documents = self.characters = self.bytes = 0
        self.digest = hashlib.sha256()
        self._parts, self._size, self._progress = parts, size, progress

    def __iter__(self) -> Iterator[Part]:
        told = 0
        for part in self._parts:
            raw = part.text.encode(errors="replace")
            self.documents += part.begins
            self.characters += len(part.text)
            self.bytes += len(raw)
            self.digest.update(raw)
            if self._progress is not None and self.characters - told >= STEP:
                told = self.characters
                share = min(1.0, self.bytes / self._size) if self._size else 0.0
                self._progress(share, f"{self.bytes / 1e6:,.0f} MB")
            yield part


def _size(names: list[str]) -> int:
    """Bytes of the files among the sources; 0 where there are none, and packed ones as they lie."""
    from workbench.errors import WorkbenchError

    total = 0
    for name in names:
        try:
            total += sum(Path(path).stat().st_size for path in files(name))
        except (WorkbenchError, OSError):
            continue
    return total
