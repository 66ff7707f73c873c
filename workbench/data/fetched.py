"""Corpora at an fsspec URL: fetched once into `WORKBENCH_HOME`, and then read like any file."""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from workbench import remote
from workbench.doors import path_of, reason, short
from workbench.errors import WorkbenchError
from workbench.paths import home
from workbench.progress import Progress

LARGEST = 100_000_000_000
"""Most bytes of a corpus that are fetched."""
SPARE = 1_000_000_000
"""Bytes that stay free on the disk."""
MOST_FILES = 10_000
"""Most files of a folder that are fetched."""
BLOCK = 8 << 20
"""Bytes read at a time."""
FRESH = 60.0
"""Seconds for which what was looked up is believed: a training reads its corpus several times."""
VERSIONS = (
    *("ETag", "etag", "md5Hash", "content_md5", "crc32c", "sha256", "blob_id", "generation"),
    *("LastModified", "last_modified", "mtime", "modified", "updated", "created"),
)
"""What stores call a file's version, the surest first."""

Wanted = Callable[[PurePosixPath], bool]


@dataclass(frozen=True)
class There:
    """What is at a URL.

    - `paths`: a file's path in the file system, by its name below the URL
    - `bytes`: of all files; 0 where the store does not say
    - `version`: changes with the content; "" where the store does not say
    """

    system: Any
    paths: dict[str, str]
    bytes: int
    version: str


def look(url: str, wanted: Wanted) -> There:
    """What is at a URL: one file, or the wanted files of a folder; no content is read.

    Args:
        url: An fsspec URL.
        wanted: Which files of a folder are of use, by their names below it.

    Raises:
        WorkbenchError: Nothing is there, the store does not let in, or it is more than is fetched.
    """
    url = url.strip()
    system, path = remote.opened(url)
    with remote.asking(url, "cannot be read"):
        infos = _infos(system, path, url, wanted)
    paths = {name: info["name"] for name, info in infos.items()}
    sizes = {name: int(info.get("size") or 0) for name, info in infos.items()}
    versions = {name: _version(info) for name, info in infos.items()}
    total = sum(sizes.values())
    _check_room(url, total, len(paths))
    known = all(versions.values())
    version = json.dumps([sizes, versions], sort_keys=True) if known else ""
    return There(system, paths, total, version)


def files_at(url: str, wanted: Wanted, progress: Progress | None = None) -> list[Path]:
    """The files at a URL on this machine, in order of their names; fetched where they are not here.

    What was fetched is kept below `WORKBENCH_HOME` by the version that the store gives (its ETag,
    say), and never changed: another version is another folder.

    Args:
        url: An fsspec URL of a file or folder.
        wanted: Which files of a folder are of use, by their names below it.
        progress: Called with the share that is fetched.

    Raises:
        WorkbenchError: As for `look`; or a file is cut off on its way.
    """
    key = (str(home()), url)
    at, folder = _SEEN.get(key, (-FRESH, Path()))
    if time.monotonic() - at > FRESH or not folder.is_dir():
        folder = _folder_of(url, look(url, wanted), progress)
        _SEEN[key] = (time.monotonic(), folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def file_at(name: str | Path) -> Path:
    """The path of a data file that a user named, fetched where it is a URL.

    Raises:
        WorkbenchError: It cannot be fetched, or is a folder.
    """
    if not remote.is_url(name):
        return path_of(name)
    url = str(name).strip()
    files = files_at(url, lambda path: True)
    if len(files) != 1:
        raise WorkbenchError(f"{remote.shown(url)} holds {len(files)} files; name one of them.")
    return files[0]


_SEEN: dict[tuple[str, str], tuple[float, Path]] = {}


def _infos(system: Any, path: str, url: str, wanted: Wanted) -> dict[str, dict[str, Any]]:
    """What the store says of each file, by its name below the URL."""
    try:
        info = system.info(path)
        if info["type"] == "file":
            infos = {PurePosixPath(path.rstrip("/")).name: info}
        else:
            whole = system.find(path, detail=True)
            below = {_below(name, path): info for name, info in whole.items()}
            infos = {name: info for name, info in below.items() if wanted(PurePosixPath(name))}
    except FileNotFoundError as error:
        if remote.NO_BUCKET in str(error):
            raise
        infos = {}
    if not infos:
        raise WorkbenchError(
            f"No text found at {remote.shown(url)}; give the address of a .txt, .md, .jsonl, .csv "
            "or .parquet file or of a folder of them."
        )
    for name in infos:
        if not remote.is_plain_name(name):
            raise WorkbenchError(
                f"{remote.shown(url)} holds {short(name)!r}, which is no name for a file here; "
                "rename it."
            )
    return infos


def _below(name: str, folder: str) -> str:
    return name.removeprefix(folder.rstrip("/")).lstrip("/")


def _version(info: dict[str, Any]) -> str:
    return next((f"{key} {info[key]}" for key in VERSIONS if info.get(key)), "")


def _check_room(url: str, size: int, n_files: int) -> None:
    """Raise where this is more than is fetched, or than the disk holds."""
    most = min(LARGEST, shutil.disk_usage(home()).free - SPARE)
    if size <= most and n_files <= MOST_FILES:
        return
    raise WorkbenchError(
        f"{remote.shown(url)} holds {n_files:,} files of {size / 1e9:,.1f} GB together; at most "
        f"{MOST_FILES:,} files and {max(0, most) / 1e9:,.1f} GB are fetched here. Name a part of "
        "it, or put it on a disk and name that folder."
    )


def _folder_of(url: str, there: There, progress: Progress | None) -> Path:
    """The folder of a version of what is at a URL, which holds it whole."""
    place = hashlib.sha256(url.encode()).hexdigest()[:16]
    corpora = home() / "corpora"
    known = _named(corpora, place, there.version) if there.version else None
    if known is not None and known.is_dir():
        return known
    part = corpora / f".{place}.{os.getpid()}.{threading.get_ident()}"
    shutil.rmtree(part, ignore_errors=True)
    try:
        hashes = _fetch(url, there, part, progress)
        folder = known or _named(corpora, place, json.dumps(hashes, sort_keys=True))
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        return folder
    except OSError as error:
        raise WorkbenchError(
            f"{corpora} cannot be written to ({reason(error)}); free some space."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _named(corpora: Path, place: str, version: str) -> Path:
    return corpora / f"{place}-{hashlib.sha256(version.encode()).hexdigest()[:16]}"


def _fetch(url: str, there: There, part: Path, progress: Progress | None) -> dict[str, str]:
    """Fetch all files into a new folder; returns their SHA-256."""
    n_read = 0
    hashes = {}
    for name, path in there.paths.items():
        target = part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with remote.asking(url, "cannot be read"), there.system.open(path, "rb") as stream:
            with target.open("wb") as out:
                while block := stream.read(BLOCK):
                    out.write(block)
                    digest.update(block)
                    n_read += len(block)
                    _check_fetched(url, there, n_read)
                    if progress is not None:
                        share = min(1.0, n_read / there.bytes) if there.bytes else 0.0
                        progress(share, f"fetching {remote.shown(url)}: {n_read / 1e6:,.0f} MB")
        hashes[name] = digest.hexdigest()
    if there.bytes and n_read != there.bytes:
        raise WorkbenchError(
            f"{remote.shown(url)} gave {n_read:,} bytes of {there.bytes:,}; it changed or was cut "
            "off meanwhile: try again."
        )
    return hashes


def _check_fetched(url: str, there: There, n_read: int) -> None:
    """Raise where a store gives more than it said, or more than is fetched."""
    if n_read > (there.bytes or LARGEST):
        raise WorkbenchError(
            f"{remote.shown(url)} gives more than the {there.bytes or LARGEST:,} bytes that were "
            "expected; it is being written to, or too large: try again, or name a part of it."
        )
