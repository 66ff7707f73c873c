"""A sweep's workers: each takes the next cell that nobody works on, until all have ended."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from workbench import threads
from workbench.modes import own_modes
from workbench.store import Run, Stopped, Store
from workbench.store.run import UNENDED
from workbench.store.tracker import Terminated
from workbench.store.worker import carry_out
from workbench.sweeps.slurm import has_grace

PAUSE = 0.5
"""Seconds between two looks for a cell whose worker has died."""
ATTEMPTS = 3
"""Workers that may die over one cell; then it has failed."""
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and Slurm set to make processes work together; cells are worked on alone."""


@own_modes
def work(sweep_id: str, store: Store) -> int:
    """Carry out cells of a sweep until all have ended; returns how many this worker did.

    A cell whose worker is gone is taken up from its last checkpoint or finished task.

    Args:
        sweep_id: Of the sweep's run.
        store: Where it is recorded.

    Raises:
        Terminated: This process was told to end; its cell is left to others.
    """
    if "LOCAL_RANK" in os.environ:  # torchrun leaves the GPUs to its processes
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", os.environ["LOCAL_RANK"])
    for name in LAUNCHER:
        os.environ.pop(name, None)
    n_done = 0
    while True:
        cells = store.children(sweep_id)
        if store.get(sweep_id).status == "cancelled":
            return n_done
        run = _next(cells, store)
        if run is not None:
            _carry_out(run, store)
            n_done += 1
            _note_progress(sweep_id, store)
        elif any(cell.status in UNENDED for cell in cells):
            time.sleep(PAUSE)  # a worker may die over a cell that it has now
        else:
            return n_done


def _next(cells: Sequence[Run], store: Store) -> Run | None:
    """A cell that this worker has claimed; None where others have all that is left."""
    for cell in cells:
        if cell.status not in ("queued", "interrupted"):
            continue
        if store.attempts(cell.id) >= ATTEMPTS:
            words = f"its worker died {ATTEMPTS} times; its log may say why"
            store.finish(cell.id, "failed", error=words)
        elif store.claim(cell.id):
            return store.get(cell.id)
    return None


def _carry_out(run: Run, store: Store) -> None:
    """Do a cell's job; how it ends is recorded."""
    try:
        carry_out(run, store)
    except Terminated:
        store.forget_attempts(run.id)  # the cell is not to blame
        raise
    except (Exception, Stopped):  # recorded by now; the other cells go on
        return


def _note_progress(sweep_id: str, store: Store) -> None:
    """Write how far the sweep is; the worker of the last cell ends it."""
    cells = store.children(sweep_id)
    n_ended = sum(cell.status not in UNENDED for cell in cells)
    share = n_ended / len(cells)
    message = f"{n_ended} of {len(cells)} cells"
    store.write(sweep_id, [], {"progress": share, "message": message, "heartbeat": time.time()})
    if n_ended == len(cells):
        store.finish(sweep_id, "done", progress=1.0)


@contextmanager
def started_again() -> Iterator[None]:
    """Inside the block, a worker that Slurm takes away ends its cell first, for others to take up.

    Slurm sends submitit's signal shortly before a worker's time is over; a preemption with some
    grace begins with SIGTERM. Submitit has the worker queued again and leaves by `SystemExit`,
    which within a cell would be read as the user's wish to cancel it; so the cell ends before.
    """
    number = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
    heard = []

    def end(_number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        heard.append(number)
        raise Terminated(f"the worker's time is over ({number.name})")

    queue_again = signal.signal(number, end)
    try:
        yield
    except Terminated:
        if callable(queue_again) and (heard or has_grace()):
            queue_again(number, None)
        raise
    finally:
        signal.signal(number, queue_again)


class Worker:
    """A worker that submitit sends to another process, on this machine or a cluster.

    Args:
        sweep_id: Of the sweep's run.
        url: Of the store.
        home: The workbench's folder, which all workers see.
        threads: Of each worker; 0 leaves it to torch.
    """

    def __init__(self, sweep_id: str, url: str, home: str, threads: int = 0) -> None:
        self.sweep_id = sweep_id
        self.url = url
        self.home = home
        self.threads = threads

    def __call__(self) -> int:
        """Work until all cells have ended; returns how many this worker did."""
        os.environ["WORKBENCH_HOME"] = self.home
        os.environ["WORKBENCH_STORE"] = self.url
        if self.threads:
            os.environ[threads.VARIABLE] = str(self.threads)
            threads.fit()
        with started_again():
            return work(self.sweep_id, Store(self.url))

    def checkpoint(self) -> object:
        """What Slurm starts again after a preemption: the same worker."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
