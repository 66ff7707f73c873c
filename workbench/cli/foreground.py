"""A run in the foreground of a terminal: its progress bar, and its message when interrupted."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from workbench.cli.terminal import err, plain
from workbench.store import Run, Stopped, Store, Tracker
from workbench.store.signals import sigterm_ends
from workbench.store.tracker import Terminated, Wrapped

SIGINT_CODE = 130
SIGTERM_CODE = 143
"""Exit codes that shells expect after Ctrl-C and after SIGTERM."""


class Shown(Wrapped):
    """A run's tracker that also moves a progress bar."""

    def __init__(self, tracker: Tracker, report: Callable[[float, str], None]) -> None:
        super().__init__(tracker)
        self._report = report

    def progress(self, fraction: float, message: str = "") -> None:
        """Reports progress to the run and to the bar."""
        self._report(fraction, message)
        super().progress(fraction, message)


def in_foreground(
    run: Run, store: Store, work: Callable[[Tracker], dict[str, Any] | None], report: Any
) -> Run:
    """Carry out a run and return it; Ctrl-C and SIGTERM end the process, saying how to resume.

    Args:
        run: A queued run.
        store: Where it is recorded.
        work: Does the work, given a tracker that also moves the progress bar.
        report: Moves the progress bar.
    """
    try:
        with store.running(store.begin(run.id)) as tracker, sigterm_ends(tracker):
            tracker.result = work(Shown(tracker, report))
    except (KeyboardInterrupt, Stopped) as error:
        _stopped(store.get(run.id), error)
    return store.get(run.id)


def _stopped(run: Run, error: BaseException) -> NoReturn:
    command = "eval" if run.kind == "eval" else "train"
    how = f"Go on with: workbench {command} --resume {run.id}"
    err.print(
        f"Stopped at {run.progress:.0%}. {plain(what_it_kept(run))} {how}",
        highlight=False,
        soft_wrap=True,
    )
    sys.exit(SIGTERM_CODE if isinstance(error, Terminated) else SIGINT_CODE)


def what_it_kept(run: Run) -> str:
    """A sentence on what an interrupted run need not do again."""
    if run.kind == "eval":
        return f"What was scored is kept in {run.folder}."
    steps = list(run.checkpoints)
    if not steps:
        return "There is no checkpoint yet, so it begins anew."
    return f"Kept is the checkpoint of step {steps[-1]:,} in {run.checkpoints[steps[-1]]}."
