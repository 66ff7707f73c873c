"""A GGUF file's header, walked before a reader trusts it: every length in it fits into the file's
own size.

The layout is that of the specification (github.com/ggml-org/ggml/blob/master/docs/gguf.md),
versions 2 and 3.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from workbench.doors import reading, short
from workbench.errors import WorkbenchError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by the number of its type; the other types are texts and arrays."""
TEXT, ARRAY = 8, 9
MOST_AXES = 4
MOST_ENTRIES = 1_000_000
"""Names of metadata, or tensors, that a file has at most; real ones have a few hundred."""
MOST_LISTED = 10_000_000
"""Entries of all its lists together; the largest vocabularies have some hundred thousand."""
SMALLEST_ENTRY = 13
"""Bytes of a name of metadata, its type and its value at least."""
SMALLEST_TENSOR = 24
"""Bytes of a tensor's description at least."""
ALIGNMENT = "general.alignment"
MEND = "download it again"


class Described(NamedTuple):
    """One tensor: its name, its sizes, the number of its type and where its data begin."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass
class _Cursor:
    """A place in the bytes of a header, from which nothing is read that the file does not have."""

    content: mmap.mmap
    path: Path
    at: int = 0
    listed: int = 0

    def take(self, n_bytes: int, what: str) -> int:
        """The place of the next bytes, which are passed; raises `WorkbenchError` where the file
        ends before them.
        """
        begins, left = self.at, len(self.content) - self.at
        if n_bytes > left:
            raise WorkbenchError(
                f"{self.path} is not a whole GGUF file: {what} would have {n_bytes:,} bytes where {left:,} are left; "
                f"{MEND}."
            )
        self.at += n_bytes
        return begins

    def whole(self, code: str, what: str) -> int:
        """The next whole number."""
        place = self.take(struct.calcsize(code), what)
        return int(struct.unpack_from(f"<{code}", self.content, place)[0])

    def text(self, what: str) -> str:
        """The next text, with its length before it."""
        length = self.whole("Q", f"the length of {what}")
        place = self.take(length, what)
        return self.content[place : place + length].decode("utf-8", errors="replace")

    def skip(self, kind: int, what: str) -> None:
        """Pass a value of a type."""
        if kind in SCALARS:
            self.take(SCALARS[kind], what)
        elif kind == TEXT:
            self.take(self.whole("Q", f"the length of {what}"), what)
        elif kind == ARRAY:
            self._skip_array(what)
        else:
            raise WorkbenchError(
                f"{self.path} has a value of an unknown type ({kind}) for {short(what)}; {MEND}."
            )

    def _skip_array(self, what: str) -> None:
        kind, length = self.whole("I", what), self.whole("Q", what)
        self.listed += length
        if kind == ARRAY or self.listed > MOST_LISTED:
            raise WorkbenchError(
                f"{self.path} has a list that no model has for {short(what)}; {MEND}."
            )
        if kind in SCALARS:
            self.take(SCALARS[kind] * length, what)
            return
        for _ in range(length):
            self.skip(kind, what)


def check_header(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by its name, from a header that the file can hold.

    Raises:
        WorkbenchError: the file does not begin as a GGUF file does, or claims more than it has.
    """
    with reading(path, MEND), path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise WorkbenchError(f"{path} is not a GGUF file (its first bytes are wrong); {MEND}.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _shapes(_Cursor(content, path, len(MAGIC)))


def _shapes(cursor: _Cursor) -> dict[str, tuple[int, ...]]:
    version = cursor.whole("I", "the version")
    if version not in VERSIONS:
        raise WorkbenchError(
            f"{cursor.path} is GGUF of version {version}, and versions {' and '.join(map(str, VERSIONS))} are read; "
            "convert the model again."
        )
    n_tensors, n_entries = (
        cursor.whole("Q", "the number of tensors"),
        cursor.whole("Q", "the number of names"),
    )
    left = len(cursor.content) - cursor.at
    if (
        max(n_tensors, n_entries) > MOST_ENTRIES
        or n_entries * SMALLEST_ENTRY + n_tensors * SMALLEST_TENSOR > left
    ):
        raise WorkbenchError(
            f"{cursor.path} says that it holds {n_tensors:,} tensors and {n_entries:,} names, which its "
            f"{len(cursor.content):,} bytes cannot hold; {MEND}."
        )
    alignment = 32
    for _ in range(n_entries):
        key, kind = cursor.text("a name"), cursor.whole("I", "a type")
        begins = cursor.at
        cursor.skip(kind, key)
        if key == ALIGNMENT and SCALARS.get(kind) == 4:
            alignment = struct.unpack_from("<I", cursor.content, begins)[0]
    tensors = [_described(cursor) for _ in range(n_tensors)]
    if not 0 < alignment <= 1 << 20:
        raise WorkbenchError(
            f"{cursor.path} says {ALIGNMENT} = {alignment}, which is none; {MEND}."
        )
    _check_places(tensors, -(-cursor.at // alignment) * alignment, cursor)
    return {tensor.name: tensor.shape for tensor in tensors}


def _described(cursor: _Cursor) -> Described:
    name, n_axes = cursor.text("a tensor's name"), cursor.whole("I", "a tensor's axes")
    if not 0 < n_axes <= MOST_AXES:
        raise WorkbenchError(
            f"{cursor.path} gives the tensor {short(name)} {n_axes:,} axes; {MEND}."
        )
    shape = tuple(cursor.whole("Q", "a tensor's sizes") for _ in range(n_axes))
    return Described(
        name, shape, cursor.whole("I", "a tensor's type"), cursor.whole("Q", "a tensor's place")
    )


def _check_places(tensors: list[Described], begins: int, cursor: _Cursor) -> None:
    """Refuse tensors whose data the file does not have."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    known = {
        int(kind): GGML_QUANT_SIZES[kind]
        for kind in GGMLQuantizationType
        if kind in GGML_QUANT_SIZES
    }
    for tensor in tensors:
        if tensor.kind not in known:
            raise WorkbenchError(
                f"{cursor.path} stores {short(tensor.name)} in an unknown type ({tensor.kind}); {MEND}."
            )
        per_block, n_bytes = known[tensor.kind]
        size = math.prod(tensor.shape) // per_block * n_bytes
        if begins + tensor.offset + size > len(cursor.content):
            raise WorkbenchError(
                f"{cursor.path} is not a whole GGUF file: the tensor {short(tensor.name)} {list(tensor.shape)} ends "
                f"beyond its {len(cursor.content):,} bytes; {MEND}."
            )
