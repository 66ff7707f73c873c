"""SIGTERM as an exception, so that a run's `finally` blocks run and its end is recorded."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.store.tracker import Terminated, Tracker


@contextmanager
def sigterm_ends(tracker: Tracker) -> Iterator[None]:
    """Inside the block, SIGTERM raises `Terminated` in the main thread, once."""
    owner = os.getpid()

    def end(_number: int, _frame: Any) -> None:
        if os.getpid() != owner:  # a forked child, such as a data loader's
            os._exit(128 + signal.SIGTERM)
        if not tracker.stopping:  # otherwise the run is cleaning up already
            tracker.stopping = True
            raise Terminated("the process was told to end (SIGTERM)")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
