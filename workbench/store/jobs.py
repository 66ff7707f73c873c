"""Background jobs: a run in its own process, which outlives the page, the browser and the app."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from workbench.errors import WorkbenchError
from workbench.paths import home
from workbench.store import processes
from workbench.store.run import Run
from workbench.store.runs import Store

KINDS = {
    "train": "workbench.training.pretrain:run_recipe",
    "finetune": "workbench.training.finetune:run_recipe",
    "study": "workbench.training.study:run_recipe",
    "eval": "workbench.benchmarks.run:run_job",
    "sleep": "workbench.store.worker:sleep",
}
"""The `function(config, tracker) -> result` of each kind of run, imported only when needed."""


def start(
    kind: str,
    title: str,
    config: dict[str, Any],
    parent: str | None = None,
    store: Store | None = None,
) -> Run:
    """Starts a job in the background and returns its run, which is still queued.

    Args:
        kind: A key of `KINDS`.
        title: Title shown in lists of runs.
        config: Settings passed to the job; anything that can be written as JSON.
        parent: Id of the run that this one continues.
        store: The store of the run; None is the default store.

    Raises:
        WorkbenchError: When there is no such kind.
    """
    if kind not in KINDS:
        raise WorkbenchError(
            f"there is no job of kind {kind!r}; the kinds are {', '.join(sorted(KINDS))}"
        )
    store = store or Store()
    return launch(store.create(kind, title, config, parent), store)


def resume(run_id: str, store: Store | None = None) -> Run:
    """Restarts an interrupted run in the background and returns it.

    It continues in its own folder, where the job finds its checkpoints and partial results.

    Raises:
        WorkbenchError: When the run is active or done.
    """
    store = store or Store()
    return launch(store.reopen(run_id), store)


def launch(run: Run, store: Store) -> Run:
    """Starts the worker process of a queued run and returns the run."""
    try:
        process = _spawn(run, store)
    except OSError as error:
        store.finish(run.id, "failed", error=f"the worker could not be started: {error}")
        raise
    store.hand_over(run.id, process.pid)
    # A parent that does not wait for its children leaves zombies.
    threading.Thread(target=process.wait, name=f"wait for {run.id}", daemon=True).start()
    return store.get(run.id)


def cancel(run_id: str, store: Store | None = None, grace: float = 3.0) -> Run:
    """Stops a run and returns it; a worker that does not stop by itself is killed.

    A run in the foreground (a notebook, a command) and one on another host are only asked to stop.

    Args:
        run_id: The run's id, or the beginning of it.
        store: The store of the run; None is the default store.
        grace: Seconds that the worker has to stop by itself, before SIGTERM and then SIGKILL.
    """
    store = store or Store()
    run = store.get(run_id)
    if not run.active:
        return run
    store.ask_to_stop(run.id)
    if run.host != processes.HOST:
        return store.get(run.id)
    # The worker may have started since the row was read, or be about to start.
    run = store.get(run.id)
    if processes.is_worker(run.pid, run.id):
        _end(run, grace)
    elif run.status == "queued":
        store.finish(run.id, "cancelled")
    return store.get(run.id)


def reconcile(store: Store) -> None:
    """Marks runs whose process is gone as interrupted; `Store.list` and `Store.get` do so too."""
    store.reconcile()


def tail(run_id: str, n: int = 50, store: Store | None = None) -> str:
    """The last lines of a run's log; a progress bar counts as one line, in its last state.

    Args:
        run_id: The run's id, or the beginning of it.
        n: Number of lines.
        store: The store of the run; None is the default store.
    """
    path = (store or Store()).get(run_id).folder / "log.txt"
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1000 * n))
        lines = file.read().decode(errors="replace").rstrip().split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines[-n:])


def _spawn(run: Run, store: Store) -> "subprocess.Popen[bytes]":
    # -P: a file in the working folder that is called datasets.py is not ours to import.
    command = [sys.executable, "-P", "-m", "workbench.store.worker", run.id]
    places = {
        "WORKBENCH_HOME": str(home().resolve()),
        "WORKBENCH_STORE": store.url,
        "PYTHONUNBUFFERED": "1",
    }
    # Threads that spin while they wait would take the cores from the app and from other runs.
    places["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    with (run.folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command,
            env={**os.environ, **places},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _end(run: Run, grace: float) -> None:
    """Waits, then sends SIGTERM, then SIGKILL, to the worker's process group with its children."""
    for number, seconds in ((None, grace), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
        if number:
            _kill_group(run.pid, number)
        end = time.monotonic() + seconds
        while processes.is_worker(run.pid, run.id) and time.monotonic() < end:
            time.sleep(0.02)
        if not processes.is_worker(run.pid, run.id):
            break
    _kill_group(run.pid, signal.SIGKILL)  # children that outlived the worker


def _kill_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except OSError:
        pass  # the group is empty
