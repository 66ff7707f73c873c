"""The doors to files that other people made: sizes and names are bounded, and what a library raises
is a sentence.

A reader of a format calls its library inside `reading`, and nowhere else is a broad `except`
needed.
"""

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from workbench.errors import WorkbenchError

LONGEST_SHOWN = 200
"""Characters of a name or a reason that a sentence shows."""
LONGEST_PART, LONGEST_PATH = 255, 4095
"""Bytes of a file's name, and of its whole path, beyond which no file system has it."""
LARGEST_JSON = 500_000_000
"""Bytes of a JSON file that is held in memory."""


LARGEST_TOML = 10_000_000
"""Bytes of a TOML file."""


class UnreadableError(WorkbenchError):
    """A file is not what it should be; `__cause__` is what the library said."""


@contextmanager
def reading(source: object, mend: str, fault: str = "cannot be read") -> Iterator[None]:
    """Within it, whatever a library raises for a file becomes one sentence.

    Args:
        source: The file, or what the user called it: the sentence begins with it.
        mend: A clause that says what to do, without a full stop.
        fault: What the file is not, where that can be said better.

    Raises:
        UnreadableError: for any other exception than a `WorkbenchError` and what stops a program.
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
        # A panic in a library written in Rust is no `Exception` in Python.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UnreadableError(f"{short(source)} {fault} ({reason(error)}); {mend}.") from error


def made_folder(folder: Path) -> Path:
    """The folder, made where it is missing. Raises `WorkbenchError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"The folder {folder} cannot be made ({reason(error)}); choose one that you may write to."
        ) from error
    return folder


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A file to write in place of `path`, which takes its name whole at the end or leaves it as it
    was.

    Raises `WorkbenchError` where the disk is full or the place may not be written.
    """
    part = path.with_name(f".{path.name[-200:]}.{os.getpid()}")
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise WorkbenchError(
            f"{path} cannot be written ({reason(error)}); free some space, or choose a folder that exists and that you "
            "may write to."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def reason(error: BaseException) -> str:
    """Why something failed, in a few words: the first line of an error's message, or its kind where
    it has none.

    The bare message of a `KeyError` or an `AttributeError` says little, so the kind of these goes
    before it.
    """
    said = getattr(error, "strerror", None) or str(error).strip()
    lines = [line.strip() for line in said.splitlines()]
    line = short(
        " ".join(lines[:2]) if lines and lines[0].endswith(":") else lines[0] if lines else ""
    )
    if isinstance(error, LookupError | AttributeError | TypeError | RecursionError):
        return f"{type(error).__name__}: {line}" if line else type(error).__name__
    return line or type(error).__name__


def short(text: object, longest: int = LONGEST_SHOWN) -> str:
    """A text with its middle left out where it is long."""
    text = str(text)
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 3 :]}"


def path_of(name: str | Path, what: str = "file or folder") -> Path:
    """The path that a person named, `~` resolved.

    Raises:
        WorkbenchError: for a name that no file can have: too long, or with a character that ends
            texts.
    """
    text = os.fspath(name)
    parts = text.encode(errors="replace").split(os.sep.encode())
    if "\0" in text or len(text) > LONGEST_PATH or max(map(len, parts)) > LONGEST_PART:
        raise WorkbenchError(
            f"{short(text, 60)!r} ({len(text):,} characters) is no name that a {what} can have; check the path."
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
    """What a JSON file holds.

    Args:
        path: The file.
        mend: As for `reading`.
        fault: As for `reading`.
        largest: Bytes that such a file may have.

    Raises:
        WorkbenchError: it is missing, larger, or no JSON.
    """
    with reading(path, mend, fault):
        return json.loads(_bounded_text(path, mend, largest))


def read_toml(
    path: Path,
    mend: str,
    fault: str = "is not a readable TOML file",
    *,
    largest: int = LARGEST_TOML,
) -> dict[str, Any]:
    """What a TOML file holds. Raises `WorkbenchError` as `read_json` does."""
    with reading(path, mend, fault):
        return tomllib.loads(_bounded_text(path, mend, largest))


def read_object(
    path: Path, mend: str, fault: str = "cannot be read", *, largest: int = LARGEST_JSON
) -> dict[str, Any]:
    """As `read_json`, for a file that holds an object. Raises `WorkbenchError` for anything else."""
    values = read_json(path, mend, fault, largest=largest)
    with reading(path, mend, fault):
        if not isinstance(values, dict):
            raise TypeError(
                f"it holds a {type(values).__name__} where an object of names and values belongs"
            )
    return values


def _bounded_text(path: Path, mend: str, largest: int) -> str:
    """The text of a file of at most `largest` bytes. Raises `WorkbenchError` for a larger one."""
    size = path.stat().st_size
    if size > largest:
        raise WorkbenchError(f"{path} has {size:,} bytes, which no such file has; {mend}.")
    return path.read_text(encoding="utf-8")
