"""Copies of runs' files at an fsspec URL (`WORKBENCH_ARTEFACTS`), where other machines find them.

A run's files form units: each checkpoint is one, and everything else together is another. A unit's
files are stored under their SHA-256, and its manifest, which lists them, is written last; so a unit
is there whole or not at all, and what was fetched is known to be what was written:

    RUN/objects/SHA256
    RUN/manifests/checkpoints.step-0000020.json, RUN/manifests/files.json
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from workbench import remote
from workbench.doors import short
from workbench.errors import WorkbenchError

REST = "files"
"""The unit of all files that belong to no checkpoint."""
CHECKPOINT = "checkpoints.step-"
UNIT = re.compile(rf"{REST}|{re.escape(CHECKPOINT)}\d{{1,20}}")
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
LARGEST_MANIFEST = 20_000_000
"""Bytes."""
MOST_FILES = 20_000
"""Files of a unit."""


@dataclass(frozen=True)
class Stored:
    """A file of a unit as its manifest describes it."""

    sha256: str
    bytes: int


class DamagedError(WorkbenchError):
    """A copy is not what was written."""


Manifest = Mapping[str, Stored]
"""The files of a unit by their path below it, with `/` on every system."""


class Artefacts:
    """The copies of one run's files at a URL.

    Args:
        root: An fsspec URL or a folder, as in `WORKBENCH_ARTEFACTS`.
        run_id: The run's full id.

    Raises:
        WorkbenchError: The URL cannot be opened here.
    """

    def __init__(self, root: str, run_id: str) -> None:
        assert RUN_ID.fullmatch(run_id), run_id
        self.url = f"{root.strip().rstrip('/')}/{run_id}"
        self.system, self.path = remote.opened(self.url)

    def check(self) -> None:
        """Write and delete a small file, to know that the place can be used before work begins.

        Raises:
            WorkbenchError: It cannot, in one sentence.
        """
        with remote.asking(self.url, "cannot be written to"):
            trial = f"{self.path}/trial-{uuid.uuid4().hex[:8]}"
            remote.write_bytes(self.system, trial, b"trial")
            self.system.rm_file(trial)

    def units(self) -> list[str]:
        """The names of the units that are whole there, in alphabetical order."""
        names = [name.removesuffix(".json") for name in self._names("manifests")]
        return sorted(name for name in names if UNIT.fullmatch(name))

    def manifest(self, unit: str) -> Manifest | None:
        """The files of a unit; None where it is not there.

        Raises:
            WorkbenchError: The manifest is damaged, or the store does not answer.
        """
        path = self._manifest_path(unit)
        with remote.asking(self.url):
            try:
                if self.system.info(path)["size"] > LARGEST_MANIFEST:
                    raise self._damaged(f"the manifest of {unit} is larger than any")
                text = self.system.cat_file(path)
            except FileNotFoundError:
                return None
        try:
            listed = json.loads(text)["files"]
            manifest = {name: Stored(**file) for name, file in listed.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(f"the manifest of {unit} cannot be read") from error
        if len(manifest) > MOST_FILES or not all(map(_is_plain, manifest, manifest.values())):
            raise self._damaged(f"the manifest of {unit} lists what no run writes")
        return manifest

    def put(self, unit: str, files: Mapping[str, Path], *, again: bool = False) -> Manifest | None:
        """Write a unit: its files, then its manifest; files that are there already are not sent.

        Args:
            unit: Its name.
            files: The local files by their path below the unit.
            again: Whether to send all files, as those there may be damaged.

        Returns:
            The manifest, or None where a file changed or went away meanwhile: try again later.

        Raises:
            WorkbenchError: The store refuses or does not answer.
        """
        with remote.asking(self.url, "cannot be written to"):
            there = {} if again else self._objects()
            manifest = {}
            for name, path in files.items():
                stored = self._put_file(path, there)
                if stored is None:
                    return None
                manifest[name] = stored
            listed = {name: asdict(file) for name, file in sorted(manifest.items())}
            text = json.dumps({"unit": unit, "files": listed}, indent=1)
            remote.write_bytes(self.system, self._manifest_path(unit), text.encode())
        return manifest

    def get(self, manifest: Manifest, folder: Path) -> None:
        """Fetch the files of a unit into a new folder; each is held against its hash.

        Args:
            manifest: Of the unit.
            folder: Is made; the caller puts it into its place, or deletes it after an error.

        Raises:
            WorkbenchError: A file is missing or is not what was written.
        """
        for name, file in manifest.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = f"{self.path}/objects/{file.sha256}"
            with remote.asking(self.url):
                try:
                    if self.system.info(source)["size"] != file.bytes:
                        raise self._damaged(f"{short(name)} is not whole")
                    self.system.get_file(source, str(target))
                except FileNotFoundError as error:
                    raise self._damaged(f"{short(name)} is missing") from error
            if sha256(target) != file.sha256:
                raise self._damaged(f"{short(name)} is not what was written")

    def drop(self, unit: str) -> None:
        """Delete a unit's manifest; its files go with the next `tidy`."""
        with remote.asking(self.url, "cannot be written to"):
            try:
                self.system.rm_file(self._manifest_path(unit))
            except FileNotFoundError:
                return

    def tidy(self, manifests: Iterable[Manifest]) -> None:
        """Delete the files that no manifest lists; only the process that writes the run may do so.

        Args:
            manifests: Of all units that are there.
        """
        used = {file.sha256 for manifest in manifests for file in manifest.values()}
        with remote.asking(self.url, "cannot be written to"):
            for name in self._objects().keys() - used:
                self.system.rm_file(f"{self.path}/objects/{name}")

    def delete(self) -> None:
        """Delete everything of the run there; manifests go first, so that no unit is half there."""
        for unit in self.units():
            self.drop(unit)
        with remote.asking(self.url, "cannot be deleted"):
            if self.system.exists(self.path):
                self.system.rm(self.path, recursive=True)

    def _put_file(self, path: Path, there: dict[str, int]) -> Stored | None:
        """Write a file under its hash where it is not there whole; None where it is changing."""
        try:
            before = path.stat()
            digest = sha256(path)
            if there.get(digest) != before.st_size:
                remote.put_file(self.system, path, f"{self.path}/objects/{digest}")
            after = path.stat()
        except FileNotFoundError as error:
            if error.filename is None or Path(error.filename) != path:
                raise  # the store's: no such bucket
            return None
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            return None
        there[digest] = before.st_size
        return Stored(digest, before.st_size)

    def _objects(self) -> dict[str, int]:
        """The size of each object there by its hash."""
        return {name: size for name, size in self._listed("objects")}

    def _names(self, folder: str) -> list[str]:
        return [name for name, _ in self._listed(folder)]

    def _listed(self, folder: str) -> Iterator[tuple[str, int]]:
        with remote.asking(self.url):
            try:
                entries: list[dict[str, Any]] = self.system.ls(f"{self.path}/{folder}", detail=True)
            except FileNotFoundError as error:
                if remote.NO_BUCKET in str(error):
                    raise
                return
        for entry in entries:
            if entry["type"] == "file":
                yield PurePosixPath(entry["name"]).name, int(entry["size"] or 0)

    def _manifest_path(self, unit: str) -> str:
        assert UNIT.fullmatch(unit), unit
        return f"{self.path}/manifests/{unit}.json"

    def _damaged(self, what: str) -> "DamagedError":
        return DamagedError(
            f"The copy at {remote.shown(self.url)} is damaged ({what}); copy the run again from "
            "the machine that has it, or go on from an older checkpoint."
        )


def _is_plain(name: str, file: Stored) -> bool:
    """Whether a file of a manifest lies below its unit and its hash is one."""
    plain = remote.is_plain_name(name)
    right_types = isinstance(file.sha256, str) and type(file.bytes) is int and file.bytes >= 0
    return plain and right_types and re.fullmatch(r"[0-9a-f]{64}", file.sha256) is not None


def root() -> str:
    """The URL of all copies, `WORKBENCH_ARTEFACTS`; "" where runs are not copied."""
    return os.environ.get("WORKBENCH_ARTEFACTS", "").strip()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
