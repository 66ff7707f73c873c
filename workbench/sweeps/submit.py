"""Workers in processes of their own, through submitit: beside this one, or on a Slurm cluster."""

import os
import shutil
import time
from collections.abc import Sequence
from typing import Any, Protocol

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.progress import Progress
from workbench.store import Run, Store
from workbench.store.run import UNENDED
from workbench.sweeps.slurm import Resources, SlurmJobs, refusal
from workbench.sweeps.work import Worker

PLACES = ("here", "local", "slurm", "torchrun")
"""Where cells are worked on: this process, processes beside it, a Slurm cluster, torchrun's."""
PAUSE = 0.5
"""Seconds between two looks at the cells."""
PATIENCE = 120.0
"""Seconds that a process under torchrun waits for the first one to record the sweep."""


class Jobs(Protocol):
    """Workers that were started.

    - `n`: how many
    """

    n: int

    def gone(self) -> bool:
        """Whether no worker is left."""
        ...

    def withdraw(self) -> None:
        """Take back the workers that have not begun."""
        ...

    def cancel(self) -> None:
        """End all workers."""
        ...


class LocalJobs:
    """Workers in processes beside this one.

    Args:
        jobs: Submitit's.
    """

    def __init__(self, jobs: Sequence[Any]) -> None:
        self.n = len(jobs)
        self._jobs = jobs

    def gone(self) -> bool:
        """Whether all processes have ended."""
        return all(job.done() for job in self._jobs)

    def withdraw(self) -> None:
        """Do nothing: processes begin at once."""

    def cancel(self) -> None:
        """End the processes."""
        for job in self._jobs:
            job.cancel(check=False)


def check_place(on: str, workers: int) -> None:
    """Check that workers can be started.

    Raises:
        WorkbenchError: For an unknown place, no worker, or a missing submitit or Slurm.
    """
    if on not in PLACES:
        raise WorkbenchError(f"A sweep runs on {' or '.join(PLACES)}, not on {on!r}.")
    if workers < 1:
        raise WorkbenchError(f"A sweep needs a worker at least, not {workers}.")
    if on not in ("local", "slurm"):
        return
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise WorkbenchError(
            "Workers in other processes need submitit; install it by pip install "
            '"gpt-workbench[cluster]".'
        ) from error
    if on == "slurm" and shutil.which("sbatch") is None:
        raise WorkbenchError("Slurm does not answer here (there is no sbatch); use --on local.")


def submit(sweep_id: str, store: Store, on: str, workers: int, resources: Resources) -> Jobs:
    """Start the workers of a sweep, and return them.

    Raises:
        WorkbenchError: Slurm does not take them.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    folder = store.get(sweep_id).folder / "workers"
    executor = submitit.AutoExecutor(folder=folder, cluster=on)
    executor.update_parameters(name="workbench-sweep", **resources.parameters())
    # Beside one another, workers share this machine's processors.
    threads = max(1, (os.cpu_count() or 1) // workers) if on == "local" else resources.cpus
    worker = Worker(sweep_id, store.url, str(paths.home()), threads)
    try:
        with executor.batch():
            jobs = [executor.submit(worker) for _ in range(workers)]
    except FailedJobError as error:
        raise WorkbenchError(
            f"Slurm does not take the workers: {refusal(error)} Ask for something else with: "
            f"workbench sweep --resume {sweep_id} --on slurm, and --partition, --memory, --cpus, "
            "--gpus, --minutes or --sbatch"
        ) from error
    return SlurmJobs([job.job_id for job in jobs]) if on == "slurm" else LocalJobs(jobs)


def wait(sweep_id: str, store: Store, jobs: Jobs, progress: Progress | None = None) -> None:
    """Wait until all cells have ended; where this is interrupted, the workers are ended too.

    Raises:
        WorkbenchError: All workers are gone before the last cell.
    """
    try:
        while True:
            cells = store.children(sweep_id)
            n_open = sum(cell.status in UNENDED for cell in cells)
            if progress is not None:
                share = sum(cell.progress for cell in cells) / len(cells)
                progress(share, f"{len(cells) - n_open} of {len(cells)} cells")
            if not n_open:
                jobs.withdraw()
                return
            if jobs.gone():
                _if_left(sweep_id, store, jobs)
                return
            time.sleep(PAUSE)
    except BaseException:
        jobs.cancel()
        raise


def _if_left(sweep_id: str, store: Store, jobs: Jobs) -> None:
    """Raise where cells are left and no worker is."""
    cells = store.children(sweep_id)
    left = [cell for cell in cells if cell.status in UNENDED]
    if left:
        raise WorkbenchError(
            f"All {jobs.n} workers are gone and {len(left)} of {len(cells)} cells are left; "
            f"their logs are in {store.get(sweep_id).folder / 'workers'}. Go on with: workbench "
            f"sweep --resume {sweep_id}"
        )


def joined(store: Store) -> Run:
    """The sweep that the first process under this torchrun has recorded.

    Raises:
        WorkbenchError: It records none.
    """
    launch = os.environ["TORCHELASTIC_RUN_ID"]
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if runs := store.list("sweep", 1, tag=launch):
            return runs[0]
        time.sleep(0.2)
    raise WorkbenchError("The first process has recorded no sweep; its message says why.")
