"""Safe reading and writing of files: sizes and names are bounded, and errors become one sentence.

A reader of a format calls its library inside `reading`; no broad `except` is needed anywhere else.
"""

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import pandas as pd

LONGEST_SHOWN = 200
"""Most characters of a name or a reason in a message."""
LONGEST_PART = 255
"""Most bytes of a file name that file systems allow."""
LONGEST_PATH = 4095
"""Most bytes of a path that file systems allow."""
LARGEST_JSON = 500_000_000
"""Largest JSON file, in bytes, that is read."""
LARGEST_TOML = 10_000_000
"""Largest TOML file, in bytes, that is read."""


class UnreadableError(WorkbenchError):
    """A file is not what it should be; `__cause__` is the library's own error."""


@contextmanager
def reading(source: object, mend: str, fault: str = "cannot be read") -> Iterator[None]:
    """Turns any exception of the block into an `UnreadableError` of one sentence.

    Args:
        source: The file, or what the user called it; the sentence begins with it.
        mend: A clause that says what to do, without a full stop.
        fault: What is wrong with the file, where more is known than that it cannot be read.

    Raises:
        UnreadableError: For any exception but a `WorkbenchError`, a keyboard interrupt and the
            like.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except MemoryError as error:
        raise UnreadableError(
            f"{short(source)} needs more memory than this machine has left; {mend}."
        ) from error
    except BaseException as error:
        # A panic in a library written in Rust is not an `Exception` in Python.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UnreadableError(f"{short(source)} {fault} ({reason(error)}); {mend}.") from error


def made_folder(folder: Path) -> Path:
    """The folder, made where it is missing.

    Raises:
        WorkbenchError: The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"The folder {folder} cannot be made ({reason(error)}); choose one that you may write "
            "to."
        ) from error
    return folder


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary file that replaces `path` at the end of the block, or not at all on an error.

    Raises:
        WorkbenchError: The disk is full, or the place may not be written to.
    """
    part = path.with_name(f".{path.name[-200:]}.{os.getpid()}")
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise WorkbenchError(
            f"{path} cannot be written ({reason(error)}); free some space, or choose a folder that "
            "exists and that you may write to."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def reason(error: BaseException) -> str:
    """The first line of an error's message, or the error's type where it has no message.

    The message of a `KeyError` or an `AttributeError` says little without its type, so the type is
    put before it.
    """
    message = getattr(error, "strerror", None) or str(error).strip()
    lines = [line.strip() for line in message.splitlines()] or [""]
    line = short(" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])
    if isinstance(error, LookupError | AttributeError | TypeError | RecursionError):
        return f"{type(error).__name__}: {line}" if line else type(error).__name__
    return line or type(error).__name__


def short(text: object, longest: int = LONGEST_SHOWN) -> str:
    """A text, with its middle replaced by "…" where it is longer than `longest`."""
    text = str(text)
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 3 :]}"


def path_of(name: str | Path, what: str = "file or folder") -> Path:
    """The path that a user gave, with `~` expanded.

    Raises:
        WorkbenchError: For a name that no file can have: too long, or with a null character.
    """
    text = os.fspath(name)
    parts = text.encode(errors="replace").split(os.sep.encode())
    if "\0" in text or len(text) > LONGEST_PATH or max(map(len, parts)) > LONGEST_PART:
        raise WorkbenchError(
            f"{short(text, 60)!r} ({len(text):,} characters) is no name that a {what} can have; "
            "check the path."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise WorkbenchError(
            f"{text} names a person's folder that is not known here; write the path whole."
        ) from error


def read_json(
    path: Path, mend: str, fault: str = "cannot be read", *, largest: int = LARGEST_JSON
) -> Any:
    """The value in a JSON file.

    Args:
        path: The file.
        mend: As for `reading`.
        fault: As for `reading`.
        largest: Largest size in bytes.

    Raises:
        WorkbenchError: The file is missing, larger, or not JSON.
    """
    with reading(path, mend, fault):
        return parsed_json(_bounded_text(path, mend, largest))


def parsed_json(text: str) -> Any:
    r"""The value of a JSON text, in which every text can be written as UTF-8.

    Raises:
        ValueError: It is not JSON, or writes half a character, such as `\ud83d` alone, which no
            file, table or page can hold.
    """
    value = json.loads(text)
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def read_toml(
    path: Path,
    mend: str,
    fault: str = "is not a readable TOML file",
    *,
    largest: int = LARGEST_TOML,
) -> dict[str, Any]:
    """The table in a TOML file.

    Args:
        path: The file.
        mend: As for `reading`.
        fault: As for `reading`.
        largest: Largest size in bytes.

    Raises:
        WorkbenchError: The file is missing, larger, or not TOML.
    """
    with reading(path, mend, fault):
        return tomllib.loads(_bounded_text(path, mend, largest))


def read_frame(path: Path) -> "pd.DataFrame":
    """The table of a Parquet file, once all its bytes are known to be what its columns claim.

    pandas alone lets text that is not UTF-8 in, and fails where the text is used.

    Raises:
        ValueError: The file is damaged; call it inside `reading`.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    table.validate(full=True)
    return table.to_pandas()


def read_object(
    path: Path, mend: str, fault: str = "cannot be read", *, largest: int = LARGEST_JSON
) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: The file.
        mend: As for `reading`.
        fault: As for `reading`.
        largest: Largest size in bytes.

    Raises:
        WorkbenchError: The file is missing, larger, not JSON, or holds anything but an object.
    """
    values = read_json(path, mend, fault, largest=largest)
    with reading(path, mend, fault):
        if not isinstance(values, dict):
            raise TypeError(
                f"it holds a {type(values).__name__} where an object of names and values belongs"
            )
    return values


def _bounded_text(path: Path, mend: str, largest: int) -> str:
    """The text of a file of at most `largest` bytes; raises `WorkbenchError` for a larger one."""
    size = path.stat().st_size
    if size > largest:
        raise WorkbenchError(f"{path} has {size:,} bytes, which no such file has; {mend}.")
    return path.read_text(encoding="utf-8")
