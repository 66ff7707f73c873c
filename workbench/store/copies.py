"""A run's files on this machine and their copies at `WORKBENCH_ARTEFACTS`: fetched and copied."""

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workbench import remote
from workbench.doors import writing
from workbench.errors import WorkbenchError
from workbench.paths import home
from workbench.store import processes
from workbench.store.artefacts import (
    CHECKPOINT,
    REST,
    Artefacts,
    DamagedError,
    Manifest,
    root,
    sha256,
)
from workbench.store.run import Run, checkpoints_in

TRIES = 3
"""Attempts to fetch what another machine is writing."""
FRESH = 30.0
"""Seconds for which a list of checkpoints at the URL is believed."""
LOG = "log.txt"
"""Is being written to, and so never replaced."""
LOG_ELSEWHERE = "log-elsewhere.txt"
"""What another machine logged, where this one has a log of its own."""
SYNCED = ".artefacts.json"
"""In a run's folder: the hashes of the files when they were last copied or fetched here."""

Say = Callable[[str], None]
WARN: Say = logging.getLogger("workbench").warning


def place_of(run_id: str) -> Artefacts | None:
    """Where a run is copied to, or None without `WORKBENCH_ARTEFACTS`.

    Raises:
        WorkbenchError: The URL cannot be opened, or is a folder that holds the runs themselves.
    """
    url = root()
    if not url:
        return None
    if not remote.is_url(url) and Path(url).expanduser().resolve() in (home(), home() / "runs"):
        raise WorkbenchError(
            f"WORKBENCH_ARTEFACTS={url} is the folder of the runs themselves; give another one."
        )
    return Artefacts(url, run_id)


def units_in(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of a run's folder by unit and by their path below it, without half-done ones."""
    rest = _files_below(folder, without="checkpoints")
    units = {REST: rest} if rest else {}
    for step, checkpoint in checkpoints_in(folder).items():
        if files := _files_below(checkpoint):  # none where it is being deleted
            units[unit_of(step)] = files
    return units


def unit_of(step: int) -> str:
    """The name of a checkpoint's unit."""
    return f"{CHECKPOINT}{step:07d}"


@dataclass
class There:
    """What of a run is at the URL: manifests by unit, and the units that are damaged."""

    manifests: dict[str, Manifest]
    damaged: set[str]


def fetch(folder: Path, place: Artefacts, say: Say = WARN) -> There:
    """Fetch all that was copied of a run and is not in its folder; returns what is there.

    A damaged checkpoint is left out, as is one that goes away meanwhile.

    Args:
        folder: Of the run, on this machine.
        place: Where it was copied to.
        say: Called with one sentence for each checkpoint that is left out.

    Raises:
        WorkbenchError: The store does not answer, or the files beside the checkpoints are damaged.
    """
    there = There({}, set())
    for unit in place.units():
        try:
            manifest = _fetch_unit(folder, place, unit)
        except DamagedError as error:
            if unit == REST:
                raise
            say(f"The checkpoint {unit.removeprefix('checkpoints.')} is left out. {error}")
            there.damaged.add(unit)
            continue
        if manifest is not None:
            there.manifests[unit] = manifest
    return there


def copy(run: Run) -> str:
    """Copy a run anew, whole; returns the URL.

    Raises:
        WorkbenchError: There is no `WORKBENCH_ARTEFACTS`, or it cannot be written to.
    """
    place = _needed(run)
    units = units_in(run.folder)
    if not units:
        raise WorkbenchError(f"run {run.id} has no file on this machine that could be copied")
    for unit, files in units.items():
        manifest = place.put(unit, files, again=True)
        if manifest is None:
            raise WorkbenchError(f"run {run.id} is being written; copy it when it has ended")
        if unit == REST:
            note(run.folder, manifest)
    return remote.shown(place.url)


def fetch_run(run: Run) -> list[int]:
    """Fetch a run's files to this machine; returns the steps of the checkpoints that are here now.

    Raises:
        WorkbenchError: There is no `WORKBENCH_ARTEFACTS`, or nothing of the run.
    """
    place = _needed(run)
    if not fetch(run.folder, place).manifests:
        raise WorkbenchError(
            f"There is nothing of run {run.id} at {remote.shown(place.url)}; copy it there from "
            f"the machine that has it: workbench runs --copy {run.id}"
        )
    return list(run.checkpoints)


def delete(run: Run) -> None:
    """Delete a run's copies, where runs are copied."""
    place = place_of(run.id)
    if place is not None:
        place.delete()


def steps_of(run: Run) -> list[int]:
    """The steps of a run's checkpoints, here and at the URL, in order.

    The store is not asked for a run that this machine has whole, nor twice within half a minute.

    Raises:
        WorkbenchError: The store does not answer, and no checkpoint is here.
    """
    here = checkpoints_in(run.folder)
    whole = (run.folder / SYNCED).is_file() and run.host == processes.HOST
    if not root() or (here and whole):
        return list(here)
    try:
        there = _listed(run.id)
    except WorkbenchError as error:
        if not here:
            raise
        WARN(f"{error} The checkpoints on this machine are used.")
        there = []
    return sorted({*here, *there})


def checkpoint(run: Run, step: int) -> Path:
    """The folder of a checkpoint on this machine, fetched where it is not here yet.

    Raises:
        WorkbenchError: It is not there, or is damaged.
    """
    here = checkpoints_in(run.folder).get(step)
    if here is not None:
        return here
    place = _needed(run)
    if _fetch_unit(run.folder, place, unit_of(step)) is None:
        raise WorkbenchError(
            f"There is no checkpoint {step} at {remote.shown(place.url)} any more."
        )
    return checkpoints_in(run.folder)[step]


_LISTED: dict[str, tuple[float, list[int]]] = {}


def _listed(run_id: str) -> list[int]:
    """The steps at the URL, as known half a minute ago or later."""
    key = f"{root()} {run_id}"
    at, steps = _LISTED.get(key, (-FRESH, []))
    if time.monotonic() - at > FRESH:
        place = place_of(run_id)
        units = [] if place is None else place.units()
        steps = [int(unit.removeprefix(CHECKPOINT)) for unit in units if unit != REST]
        _LISTED[key] = (time.monotonic(), steps)
    return steps


def _needed(run: Run) -> Artefacts:
    place = place_of(run.id)
    if place is None:
        raise WorkbenchError(
            "Runs are not copied anywhere; set WORKBENCH_ARTEFACTS to an address such as "
            "s3://bucket/folder."
        )
    return place


def _fetch_unit(folder: Path, place: Artefacts, unit: str) -> Manifest | None:
    """Fetch a unit that is not here as it is there; None where it has gone away."""
    for left in reversed(range(TRIES)):
        manifest = place.manifest(unit)
        if manifest is None:
            return None
        try:
            if unit == REST:
                _fetch_rest(folder, place, manifest)
            else:
                _fetch_checkpoint(folder, place, unit, manifest)
        except DamagedError:
            # Another machine may have replaced the unit, and deleted its old files, meanwhile.
            if not left or place.manifest(unit) == manifest:
                raise
        else:
            return manifest
    return None


def _fetch_checkpoint(folder: Path, place: Artefacts, unit: str, manifest: Manifest) -> None:
    target = folder / "checkpoints" / unit.removeprefix("checkpoints.")
    if target.exists():
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        place.get(manifest, part)
        with suppress(OSError):  # another process was faster
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fetch_rest(folder: Path, place: Artefacts, manifest: Manifest) -> None:
    """Fetch the files beside the checkpoints where another machine wrote them last."""
    before = _synced(folder)
    now = {name: file.sha256 for name, file in manifest.items()}
    if before == now:
        return  # what is here is the same or newer
    wanted = {
        name: file
        for name, file in manifest.items()
        if not (folder / name).is_file() or sha256(folder / name) != file.sha256
    }
    part = folder / f".fetched.{os.getpid()}.{threading.get_ident()}"
    try:
        place.get(wanted, part)
        for name in wanted:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name == LOG and target.is_file():
                _join_logs(part / name, target)
            else:
                (part / name).replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    note(folder, manifest)


def _join_logs(fetched: Path, log: Path) -> None:
    """Add a fetched log to an empty one, which a worker holds open; else put it beside."""
    if log.stat().st_size:
        fetched.replace(log.with_name(LOG_ELSEWHERE))
        return
    with log.open("ab") as stream:
        stream.write(fetched.read_bytes())


def _synced(folder: Path) -> dict[str, str] | None:
    try:
        return json.loads((folder / SYNCED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def note(folder: Path, manifest: Manifest) -> None:
    """Remember which files beside the checkpoints are here as they are there."""
    hashes = {name: file.sha256 for name, file in manifest.items()}
    with writing(folder / SYNCED) as part:
        part.write_text(json.dumps(hashes), encoding="utf-8")


def _files_below(folder: Path, without: str = "") -> dict[str, Path]:
    """The files of a folder by their path below it.

    Hidden ones are left out, as they are being written; folders may go away meanwhile.

    Args:
        folder: To be looked through.
        without: A folder in it that is left out.
    """
    files = {}
    for parent, folders, names in os.walk(folder):
        left_out = {without} if Path(parent) == folder else set()
        folders[:] = [n for n in folders if not n.startswith(".") and n not in left_out]
        for path in (Path(parent) / name for name in names if not name.startswith(".")):
            if path.is_file() and not path.is_symlink():
                files[path.relative_to(folder).as_posix()] = path
    return files
