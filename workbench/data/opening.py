"""Opens files as text: decompressed, with the encoding detected and the line length bounded."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from workbench.data.notes import Notes
from workbench.doors import path_of, reason
from workbench.errors import WorkbenchError

PACKED = (".gz", ".zst", ".bz2", ".xz")
"""Extensions of compressed files that are read."""
SAMPLE = 64_000_000
"""Number of bytes whose encoding is checked first; smaller files are checked whole."""
LONGEST_LINE = 64_000_000
"""Most characters of a line; a file with a longer one is refused."""
BLOCK = 1 << 20
FEW = 4
"""Number of control bytes that are tolerated in a short text; readers of texts drop them."""

BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
"""Byte-order mark, codec, name to show. UTF-32 goes first, as its mark begins with UTF-16's."""

DAMAGED = (OSError, EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error)


def unpacked_name(path: Path) -> str:
    """The file name without the extension of its compression: `a.jsonl.gz` is `a.jsonl`."""
    return path.stem if path.suffix.lower() in PACKED else path.name


def kind_of(path: Path) -> str:
    """The extension of the format, in lower case without its dot: `a.JSONL.gz` is `jsonl`."""
    name = unpacked_name(path)
    return Path(name).suffix.lower().removeprefix(".")


def open_bytes(path: Path) -> IO[bytes]:
    """A stream of the decompressed bytes of a file.

    Raises:
        WorkbenchError: When the file cannot be opened.
    """
    path = path_of(path)
    try:
        match path.suffix.lower():
            case ".gz":
                return gzip.open(path, "rb")  # pyright: ignore[reportReturnType]
            case ".bz2":
                return bz2.open(path, "rb")  # pyright: ignore[reportReturnType]
            case ".xz":
                return lzma.open(path, "rb")  # pyright: ignore[reportReturnType]
            case ".zst":
                import pyarrow as pa

                stream: Any = pa.input_stream(str(path), compression="zstd")
                return stream
            case _:
                return path.open("rb")
    except OSError as error:
        raise WorkbenchError(
            f"{path} cannot be opened ({reason(error)}); check the path."
        ) from error


@contextmanager
def open_text(path: Path, notes: Notes | None = None) -> Iterator[IO[str]]:
    """A stream of the text of a file, decompressed and decoded; line ends are left as they are.

    Encodings: UTF-8 (with or without a byte-order mark), UTF-16, UTF-32, and Windows-1252 where the
    bytes are not UTF-8. Any encoding but plain UTF-8 is written to `notes`.

    Raises:
        WorkbenchError: For a damaged archive and for bytes that are not text, also while reading.
    """
    encoding = detect(path, notes)
    try:
        with open_bytes(path) as raw:
            yield io.TextIOWrapper(raw, encoding=encoding, newline="")
    except UnicodeDecodeError as error:
        raise WorkbenchError(
            f"{path} is not {error.encoding} text throughout ({error.reason}); save it as UTF-8."
        ) from error
    except DAMAGED as error:
        raise WorkbenchError(
            f"{path} is damaged ({reason(error)}); download or pack it again."
        ) from error


def detect(path: Path, notes: Notes | None = None) -> str:
    """The Python codec of a file's text.

    Raises:
        WorkbenchError: When the file is not text, or cannot be decompressed.
    """
    try:
        with open_bytes(path) as raw:
            head = raw.read(BLOCK)
            codec, shown = _codec(path, head, raw)
    except DAMAGED as error:
        raise WorkbenchError(
            f"{path} is damaged ({reason(error)}); download or pack it again."
        ) from error
    if notes is not None and shown != "UTF-8":
        notes.remark(f"{path.name} is read as {shown}.")
    return codec


def _codec(path: Path, head: bytes, rest: IO[bytes]) -> tuple[str, str]:
    for mark, codec, shown in BOMS:
        if head.startswith(mark):
            return codec, shown
    zeros = head.count(0)
    if zeros:
        # In UTF-16, every other byte of Latin letters is zero.
        even = head[::2].count(0)
        odd = head[1::2].count(0)
        if max(even, odd) > 0.3 * len(head) / 2 and min(even, odd) < 0.05 * len(head) / 2:
            return ("utf-16-be", "UTF-16") if even > odd else ("utf-16-le", "UTF-16")
    controls = sum(head.count(i) for i in range(32) if i not in (9, 10, 12, 13))
    if controls > max(FEW, len(head) / 1000):
        raise WorkbenchError(f"{path} is not text (it holds control bytes); give a text file.")
    if _is_utf8(head, rest):
        return "utf-8", "UTF-8"
    try:
        head.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1", "Latin-1 (it is not UTF-8)"
    return "cp1252", "Windows-1252 (Latin-1; it is not UTF-8)"


def _is_utf8(head: bytes, rest: IO[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    seen = 0
    block = head
    try:
        while block and seen < SAMPLE:
            decoder.decode(block)
            seen += len(block)
            block = rest.read(BLOCK)
        if not block:
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def lines_of(stream: IO[str], path: Path) -> Iterator[str]:
    """The lines of an open text.

    Raises:
        WorkbenchError: When a line is longer than `LONGEST_LINE`.
    """
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise WorkbenchError(
                f"{path} has a line of over {LONGEST_LINE // 1_000_000} million characters; break "
                "it into lines."
            )
        yield line
