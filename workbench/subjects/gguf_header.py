"""Check of a GGUF file's header before a reader trusts it: all lengths must fit into the file.

Reference:
    github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
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
"""Size in bytes of a value, by its type's number; the other types are strings and arrays."""
TEXT = 8
"""Type number of a string."""
ARRAY = 9
"""Type number of an array."""
MOST_AXES = 4
MOST_ENTRIES = 1_000_000
"""Most metadata entries, or tensors, of a file; real ones have a few hundred."""
MOST_LISTED = 10_000_000
"""Most array elements of a header; the largest vocabularies have some hundred thousand."""
SMALLEST_ENTRY = 13
"""Smallest size in bytes of a metadata entry: name, type and value."""
SMALLEST_TENSOR = 24
"""Smallest size in bytes of a tensor's description."""
ALIGNMENT = "general.alignment"
MEND = "download it again"


class Described(NamedTuple):
    """One tensor of a file: name, shape, number of its type, and offset of its data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass
class _Cursor:
    """A position in the bytes of a header; reading beyond the end raises `WorkbenchError`."""

    content: mmap.mmap
    path: Path
    at: int = 0
    listed: int = 0

    def take(self, n_bytes: int, what: str) -> int:
        """Skip `n_bytes` and return where they begin."""
        start = self.at
        left = len(self.content) - start
        if n_bytes > left:
            raise WorkbenchError(
                f"{self.path} is not a whole GGUF file: {what} would have {n_bytes:,} bytes where "
                f"{left:,} are left; {MEND}."
            )
        self.at += n_bytes
        return start

    def whole(self, code: str, what: str) -> int:
        """The next integer, of the `struct` format `code`."""
        place = self.take(struct.calcsize(code), what)
        return int(struct.unpack_from(f"<{code}", self.content, place)[0])

    def text(self, what: str) -> str:
        """The next string, which is stored after its length."""
        length = self.whole("Q", f"the length of {what}")
        place = self.take(length, what)
        return self.content[place : place + length].decode("utf-8", errors="replace")

    def skip(self, kind: int, what: str) -> None:
        """Skip a value of the type with this number."""
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
        kind = self.whole("I", what)
        length = self.whole("Q", what)
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
    """The shape of every tensor by name, from a header that has been checked.

    Raises:
        WorkbenchError: The file is not GGUF, or its header claims more than the file holds.
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
            f"{cursor.path} is GGUF of version {version}, and versions "
            f"{' and '.join(map(str, VERSIONS))} are read; convert the model again."
        )
    n_tensors = cursor.whole("Q", "the number of tensors")
    n_entries = cursor.whole("Q", "the number of names")
    left = len(cursor.content) - cursor.at
    if (
        max(n_tensors, n_entries) > MOST_ENTRIES
        or n_entries * SMALLEST_ENTRY + n_tensors * SMALLEST_TENSOR > left
    ):
        raise WorkbenchError(
            f"{cursor.path} says that it holds {n_tensors:,} tensors and {n_entries:,} names, "
            f"which its {len(cursor.content):,} bytes cannot hold; {MEND}."
        )
    alignment = 32
    for _ in range(n_entries):
        key = cursor.text("a name")
        kind = cursor.whole("I", "a type")
        start = cursor.at
        cursor.skip(kind, key)
        if key == ALIGNMENT and SCALARS.get(kind) == 4:
            alignment = struct.unpack_from("<I", cursor.content, start)[0]
    tensors = [_described(cursor) for _ in range(n_tensors)]
    if not 0 < alignment <= 1 << 20:
        raise WorkbenchError(
            f"{cursor.path} says {ALIGNMENT} = {alignment}, which is none; {MEND}."
        )
    data_start = -(-cursor.at // alignment) * alignment  # rounded up
    _check_places(tensors, data_start, cursor)
    return {tensor.name: tensor.shape for tensor in tensors}


def _described(cursor: _Cursor) -> Described:
    name = cursor.text("a tensor's name")
    n_axes = cursor.whole("I", "a tensor's axes")
    if not 0 < n_axes <= MOST_AXES:
        raise WorkbenchError(
            f"{cursor.path} gives the tensor {short(name)} {n_axes:,} axes; {MEND}."
        )
    shape = tuple(cursor.whole("Q", "a tensor's sizes") for _ in range(n_axes))
    kind = cursor.whole("I", "a tensor's type")
    offset = cursor.whole("Q", "a tensor's place")
    return Described(name, shape, kind, offset)


def _check_places(tensors: list[Described], data_start: int, cursor: _Cursor) -> None:
    """Refuse tensors whose data would end beyond the file."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    known = {
        int(kind): GGML_QUANT_SIZES[kind]
        for kind in GGMLQuantizationType
        if kind in GGML_QUANT_SIZES
    }
    for tensor in tensors:
        if tensor.kind not in known:
            raise WorkbenchError(
                f"{cursor.path} stores {short(tensor.name)} in an unknown type ({tensor.kind}); "
                f"{MEND}."
            )
        per_block, n_bytes = known[tensor.kind]
        size = math.prod(tensor.shape) // per_block * n_bytes
        if data_start + tensor.offset + size > len(cursor.content):
            raise WorkbenchError(
                f"{cursor.path} is not a whole GGUF file: the tensor {short(tensor.name)} "
                f"{list(tensor.shape)} ends beyond its {len(cursor.content):,} bytes; {MEND}."
            )
