"""The process of a background run, started by `jobs`: `python -m workbench.store.worker RUN_ID`."""

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.store import Run, Stopped, Store, Tracker
from workbench.store.jobs import KINDS
from workbench.store.signals import sigterm_ends

Job = Callable[[dict[str, Any], Tracker], dict[str, Any] | None]


def main(run_id: str) -> int:
    """Executes one run, records how it ends, and returns the exit code (0 when it is done)."""
    _step_back()
    store = Store()
    try:
        carry_out(store.begin(run_id), store)
    except (Exception, Stopped):  # recorded in the store and the log by now
        return 1
    return 0


def carry_out(run: Run, store: Store) -> None:
    """Do the job of a running run and record how it ends; exceptions are passed on."""
    with store.running(run) as tracker, sigterm_ends(tracker):
        tracker.result = _job(run.kind)(run.config, tracker) or tracker.result
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # only the result is still to be written


def sleep(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """A job that does nothing for a while, to test background jobs.

    Args:
        config: `seconds` to last (default 1), and whether to `obey` a request to stop (default
            true).
        tracker: Gets the progress and the seconds passed, every 50 ms.
    """
    seconds = float(config.get("seconds", 1.0))
    obey = bool(config.get("obey", True))
    start = time.monotonic()
    steps = 0
    while (passed := time.monotonic() - start) < seconds:
        try:
            tracker.progress(passed / seconds, f"{passed:.1f} of {seconds:g} s")
        except Stopped:
            if obey:
                raise
        tracker.log(steps, passed=passed)
        steps += 1
        time.sleep(min(0.05, seconds))
    return {"seconds": passed, "steps": steps}


def _job(kind: str) -> Job:
    if kind not in KINDS:
        raise WorkbenchError(
            f"there is no job of kind {kind!r}; the kinds are {', '.join(sorted(KINDS))}"
        )
    module, _, name = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def _step_back() -> None:
    """Lower the priority of this process, and of its session, which Linux schedules as a group."""
    os.nice(5)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("10")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m workbench.store.worker RUN_ID")
    sys.exit(main(sys.argv[1]))
