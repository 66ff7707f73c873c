"""Scan: personal data and secrets in a corpus, counted by kind with masked examples; and texts with
placeholders in their place.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from workbench.data.notes import Notes
from workbench.privacy.kinds import KINDS, chosen_kinds
from workbench.privacy.sources import Source, parts_of, source_names
from workbench.privacy.stream import Hit, Part, rewritten, search
from workbench.provenance import provenance
from workbench.records import Record, stamp
from workbench.training.texts import files

EXAMPLES = 5
"""Masked examples that a record holds of each kind."""
STEP = 1 << 20
"""Characters between two reports of progress."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Example:
    """One datum, masked, and where it stands.

    - `kind`: the name of its kind; `masked`: its text with the identifying characters hidden
    - `document`: the number of its document, from 0; `position`: its first character there, from 0
    - `source`: the file or set that it is from
    """

    kind: str
    masked: str
    document: int
    position: int
    source: str


@dataclass(frozen=True)
class Scan(Record):
    """Personal data and secrets in a corpus: counts and masked examples, never the data themselves.

    - `source`: the names of the files and sets; "texts" for a list of texts
    - `counts`: how many of each kind; 0 for a kind that was looked for and not found
    - `documents`: how many documents hold each kind; `with_any`: how many hold any kind
    - `n`: how many documents there are; `characters`, `bytes`: their size, the latter in UTF-8
    - `examples`: the first few of each kind, masked
    - `remarks`: what the reader assumed or left out
    - `seconds`: processor time of the scan, reading included
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
        """The share of documents that hold any kind, from 0 to 1; NaN without documents."""
        return self.with_any / self.n if self.n else float("nan")

    def headline(self) -> str:
        """The result in a few words: the four most frequent kinds, and documents with any."""
        frequent = sorted(((n, kind) for kind, n in self.counts.items() if n), reverse=True)
        if not frequent:
            return f"nothing of {len(self.counts)} kinds in {self.bytes / 1e6:.1f} MB"
        words = ", ".join(f"{n:,} {kind}" for n, kind in frequent[:4])
        more = f" and {len(frequent) - 4} kinds more" if len(frequent) > 4 else ""
        return f"{words}{more}; in {self.with_any:,} documents ({self.share:.1%})"

    def to_frame(self) -> pd.DataFrame:
        """One row for each kind: how many, documents with it, their share, and an example."""
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
        """One row for each example: kind, masked text, document, position and source."""
        columns = ["kind", "masked", "document", "position", "source"]
        return pd.DataFrame([vars(example) for example in self.examples], columns=columns)


def scan(
    source: Source,
    kinds: Sequence[str] | None = None,
    *,
    column: str = "",
    progress: Progress | None = None,
) -> Scan:
    """Personal data and secrets in a corpus, counted by kind, with masked examples.

    The corpus is read once, in windows, so that memory does not grow with its size. Repeated texts
    are counted each time.

    Args:
        source: A file, folder, Hugging Face id or "generated", as a text or a path; a list of
            paths; or a list of texts, each of which is a document.
        kinds: Names of kinds from `workbench.privacy.kinds.KINDS`; None for all.
        column: The column of a table that holds the text; "" for the usual names.
        progress: Called with the share that is done, from 0 to 1, and a few words.

    Raises:
        WorkbenchError: For an unknown kind, a source that cannot be read, and an empty corpus.
    """
    selected = chosen_kinds(kinds)
    notes = Notes()
    begun = time.thread_time()
    names = source_names(source)
    counted = _CountedParts(parts_of(source, column, notes), _size(names), progress)
    tally = _Tally([kind.name for kind in KINDS.values() if kind in selected])
    for hit in search(counted, selected):
        tally.add(hit)
    record = Scan(
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
    stamp(record, provenance("workbench.scan", settings, models={}, data=data, seed=None))
    return record


def redact(texts: Iterable[str], kinds: Sequence[str] | None = None) -> list[str]:
    """The texts with a placeholder, such as [EMAIL], in place of everything that `scan` finds.

    Redacting the result again changes nothing.

    Args:
        texts: Texts, each redacted on its own; a single text counts as a list of one.
        kinds: Names of the kinds to replace; None for all.

    Raises:
        WorkbenchError: For an unknown kind, for anything that is not text, and for an empty list.
    """
    selected = chosen_kinds(kinds)
    texts = [texts] if isinstance(texts, str) else texts
    parts = parts_of(list(texts), "", Notes())
    return ["".join(rewritten([part], selected)) for part in parts]


class _Tally:
    """Counts of hits, which are added in the order of their documents."""

    def __init__(self, names: list[str]):
        self.counts = dict.fromkeys(names, 0)
        self.documents = dict.fromkeys(names, 0)
        self.with_any = 0
        self.examples: list[Example] = []
        self._last = dict.fromkeys(names, -1)
        self._last_any = -1

    def add(self, hit: Hit) -> None:
        """Count one hit, and mask it as an example if its kind has too few yet."""
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


class _CountedParts:
    """The parts of a corpus, whose size and hash add up as they are read; it reports progress."""

    def __init__(self, parts: Iterator[Part], size: int, progress: Progress | None):
        self.documents = 0
        self.characters = 0
        self.bytes = 0
        self.digest = hashlib.sha256()
        self._parts = parts
        self._size = size
        self._progress = progress

    def __iter__(self) -> Iterator[Part]:
        reported = 0  # characters at the last report
        for part in self._parts:
            raw = part.text.encode(errors="replace")
            self.documents += part.begins
            self.characters += len(part.text)
            self.bytes += len(raw)
            self.digest.update(raw)
            if self._progress is not None and self.characters - reported >= STEP:
                reported = self.characters
                share = min(1.0, self.bytes / self._size) if self._size else 0.0
                self._progress(share, f"{self.bytes / 1e6:,.0f} MB")
            yield part


def _size(names: list[str]) -> int:
    """Bytes on disk of the files among the sources; compressed files count as they are."""
    from workbench.errors import WorkbenchError

    total = 0
    for name in names:
        try:
            total += sum(Path(path).stat().st_size for path in files(name))
        except (WorkbenchError, OSError):
            continue
    return total
