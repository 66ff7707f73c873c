"""The tracker of a run: it writes progress and metrics, and notices requests to stop."""

import atexit
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from workbench.store.runs import Store

INTERVAL = 0.3
"""Seconds between two writes, and so the most that a killed process loses."""
HEARTBEAT = 10.0
"""Seconds between two signs of life of a run that writes nothing else."""


class Stopped(BaseException):
    """A request to stop the run.

    Not an `Exception`, so that code which skips bad samples or files does not swallow it. Clean up
    in `finally`, or catch it by name and raise it again.
    """


class Terminated(Stopped):
    """The operating system told the process to end (SIGTERM)."""


class Tracker:
    """Writes progress and metrics of one run, cheaply enough to be called at every step.

    Calls only fill a buffer; a thread writes it every 0.3 s and checks for a request to stop.
    `Store.record` and the worker close their tracker; close one from `Store.tracker` yourself.

    Attributes:
        run_id: Id of the run.
        folder: Folder of the run's files.
        result: Result of the run; stored when the run is done.
        stopping: True once `progress` has raised `Stopped`.
    """

    def __init__(self, store: "Store", run_id: str, folder: Path) -> None:
        self.run_id = run_id
        self.folder = folder
        self.result: dict[str, Any] | None = None
        self.stopping = False
        self._store = store
        self._lock = threading.Lock()
        self._rows: list[dict[str, Any]] = []
        self._values: dict[str, Any] = {}
        self._stop = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._written = time.monotonic()

    def progress(self, fraction: float, message: str = "") -> None:
        """Reports progress, 0 to 1; an empty message keeps the last one.

        Raises:
            Stopped: The run was asked to stop.
        """
        values = {"progress": min(max(0.0, float(fraction)), 1.0)}
        with self._lock:
            self._values |= values | ({"message": message} if message else {})
        if self.should_stop():
            self.stopping = True
            raise Stopped(f"run {self.run_id} was asked to stop")

    def log(self, step: int, **metrics: float) -> None:
        """Logs metrics of one step; NaN and infinities are allowed."""
        now = time.time()
        rows = [
            {
                "run_id": self.run_id,
                "step": int(step),
                "name": name,
                "value": float(value),
                "time": now,
            }
            for name, value in metrics.items()
        ]
        with self._lock:
            self._rows += rows
        self._start()

    def flush(self) -> None:
        """Writes the buffer now; if the disk is busy, it is written later."""
        with suppress(SQLAlchemyError):
            self._write()

    def forget(self, after: int) -> None:
        """Deletes the metrics of later steps, because the run is about to repeat them."""
        self._store.forget_metrics(self.run_id, after)

    def should_stop(self) -> bool:
        """Whether the run was asked to stop, as known 0.3 s ago or later."""
        self._start()
        return self._stop

    def close(self) -> None:
        """Writes the rest of the buffer and ends the thread; may be called twice."""
        self._closed.set()
        if self._thread:
            self._thread.join()
        self._write()
        atexit.unregister(self.close)

    def _start(self) -> None:
        with self._lock:
            if self._thread or self._closed.is_set():
                return
            self._thread = threading.Thread(
                target=self._loop, name=f"tracker {self.run_id}", daemon=True
            )
            self._thread.start()
        atexit.register(self.close)

    def _loop(self) -> None:
        while not self._closed.is_set():
            try:
                self._write()
            except SQLAlchemyError:
                # A busy or full disk may recover: keep the buffer; `close` raises if it does not.
                pass
            self._closed.wait(INTERVAL)

    def _write(self) -> None:
        with self._lock:
            rows = self._rows
            values = self._values
            self._rows = []
            self._values = {}
        if rows or time.monotonic() - self._written > HEARTBEAT:
            values.setdefault("heartbeat", time.time())
        try:
            self._stop = self._store.write(self.run_id, rows, values)
        except BaseException:
            with self._lock:
                self._rows = rows + self._rows
                self._values = {**values, **self._values}
            raise
        if values:
            self._written = time.monotonic()


class Wrapped(Tracker):
    """A tracker that hands everything to another one; subclasses change what they need."""

    def __init__(self, tracker: Tracker) -> None:
        self.run_id = tracker.run_id
        self.folder = tracker.folder
        self.tracker = tracker

    def progress(self, fraction: float, message: str = "") -> None:
        """Reports progress, 0 to 1; raises `Stopped` where the run was asked to stop."""
        self.tracker.progress(fraction, message)

    def log(self, step: int, **metrics: float) -> None:
        """Logs metrics of one step."""
        self.tracker.log(step, **metrics)

    def flush(self) -> None:
        """Writes the buffer now."""
        self.tracker.flush()

    def forget(self, after: int) -> None:
        """Deletes the metrics of later steps."""
        self.tracker.forget(after)

    def should_stop(self) -> bool:
        """Whether the run was asked to stop."""
        return self.tracker.should_stop()

    def close(self) -> None:
        """Does nothing: whoever opened the wrapped tracker closes it."""
