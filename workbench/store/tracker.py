"""What a run writes through: progress, metrics, and the question whether to go on."""

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
"""Seconds between two writes; a killed process loses no more than this."""
HEARTBEAT = 10.0
"""Seconds after which a silent run writes a sign of life."""


class Stopped(BaseException):
    """Somebody asked the run to stop.

    Not an `Exception`, so that code which survives a bad sample or a bad file does not swallow it;
    clean up in `finally`, or catch it by name and raise it again.
    """


class Terminated(Stopped):
    """The operating system told the process to end (SIGTERM)."""


class Tracker:
    """Writes the progress and the metrics of one run, cheaply enough to be called at every step.

    The calls only fill a buffer; a thread empties it every 0.3 s and looks for a request to stop.
    `Store.record` and the worker close the tracker; whoever takes one from `Store.tracker` calls
    `close`.

    Attributes:
        run_id: The run that it writes to.
        folder: Where the run keeps its files.
        result: What the run found; stored when the run is done.
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
        """Says how far the run is, 0 to 1; an empty message leaves the last one standing.

        Raises:
            Stopped: somebody asked the run to stop.
        """
        values = {"progress": min(max(0.0, float(fraction)), 1.0)}
        with self._lock:
            self._values |= values | ({"message": message} if message else {})
        if self.should_stop():
            self.stopping = True
            raise Stopped(f"run {self.run_id} was asked to stop")

    def log(self, step: int, **metrics: float) -> None:
        """Notes metrics of one step; NaN and infinities are kept."""
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
        """Writes what is buffered now, before something that relies on it; a busy disk leaves it
        for later.
        """
        with suppress(SQLAlchemyError):
            self._write()

    def forget(self, after: int) -> None:
        """Drops what was logged for later steps than this, because they are taken again."""
        self._store.forget_metrics(self.run_id, after)

    def should_stop(self) -> bool:
        """Whether somebody asked the run to stop, at most 0.3 s ago unnoticed."""
        self._start()
        return self._stop

    def close(self) -> None:
        """Writes what is left and ends the thread; harmless when called twice."""
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
                pass  # a busy or full disk may recover; the buffer waits, and `close` reports what does not
            self._closed.wait(INTERVAL)

    def _write(self) -> None:
        with self._lock:
            rows, self._rows = self._rows, []
            values, self._values = self._values, {}
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
