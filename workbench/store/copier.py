"""Copies a run's files to `WORKBENCH_ARTEFACTS` while it is under way."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import remote
from workbench.errors import WorkbenchError
from workbench.store.artefacts import REST, Artefacts, Manifest, root
from workbench.store.copies import WARN, fetch, note, place_of, units_in
from workbench.store.run import Run

LOOK = 2.0
"""Seconds between two looks for a new checkpoint."""
REST_EVERY = 30.0
"""Seconds between two copies of what is no checkpoint, such as the log."""
TRIES = 3
"""Attempts to copy what is left when the run ends."""
PAUSE = 2.0
"""Seconds between them."""


class Copier:
    """Copies a run's files to `WORKBENCH_ARTEFACTS` while it is under way; does nothing without.

    Args:
        run: Under way in this process.

    Attributes:
        fault: Why the last attempt to copy failed; "" where all is copied.
    """

    def __init__(self, run: Run) -> None:
        self.fault = ""
        self._folder = run.folder
        self._run_id = run.id
        self._place: Artefacts | None = None
        self._done: dict[str, Any] = {}
        self._manifests: dict[str, Manifest] = {}
        self._damaged: set[str] = set()
        self._rest_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def copies(self) -> bool:
        """Whether runs are copied at all."""
        return bool(root())

    def start(self) -> None:
        """Fetch what another machine copied of this run, then copy in the background.

        Raises:
            WorkbenchError: The URL cannot be used; better now than when the work is done.
        """
        self._folder.mkdir(exist_ok=True)
        self._place = place_of(self._run_id)
        if self._place is None:
            return
        self._place.check()
        there = fetch(self._folder, self._place)
        self._manifests = there.manifests
        self._damaged = there.damaged
        self._thread = threading.Thread(target=self._loop, name="copies", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copy what is left and end; a failure is told by `fault` and never ends the run."""
        self._stop.set()
        if self._thread is None or self._place is None:
            return
        self._thread.join()
        self._thread = None
        for left in reversed(range(TRIES)):
            self._attempt(rest=True)
            if not self.fault:
                return
            if left:
                time.sleep(PAUSE)
        WARN(f"The run is not copied whole: {self.fault}")

    def outcome(self) -> dict[str, str]:
        """What a run's result says of its copies."""
        if self._place is None:
            return {}
        if self.fault:
            return {"not_copied": self.fault}
        return {"artefacts": remote.shown(self._place.url)}

    def _loop(self) -> None:
        while not self._stop.wait(LOOK):
            self._attempt(rest=time.monotonic() - self._rest_at > REST_EVERY)

    def _attempt(self, *, rest: bool) -> None:
        before = self.fault
        self.fault = ""
        try:
            self._copy(rest=rest)
        except WorkbenchError as error:
            self.fault = str(error)
            if not before:
                WARN(f"{error} It is tried again.")

    def _copy(self, *, rest: bool) -> None:
        place = self._place
        assert place is not None
        units = units_in(self._folder)
        changed = False
        for unit, files in units.items():
            if unit == REST and not rest:
                continue
            mark = _mark(files)
            if mark is None or self._done.get(unit) == mark:
                continue
            manifest = place.put(unit, files, again=unit in self._damaged)
            if manifest is None:
                self.fault = f"files of {unit} change while they are copied"
                continue
            self._manifests[unit] = manifest
            self._done[unit] = mark
            self._damaged.discard(unit)
            changed = True
            if unit == REST:
                note(self._folder, manifest)
        if rest:
            self._rest_at = time.monotonic()
        # Checkpoints that the recipe does not keep go away there too.
        for unit in [unit for unit in self._done if unit not in units]:
            place.drop(unit)
            del self._done[unit]
            del self._manifests[unit]
        # What is damaged may still be of use to a person.
        if changed and not self._damaged:
            place.tidy(self._manifests.values())


def _mark(files: Mapping[str, Path]) -> Any:
    """Changes when files change; None where one has gone away."""
    try:
        stats = [(name, path.stat()) for name, path in sorted(files.items())]
    except OSError:
        return None
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
