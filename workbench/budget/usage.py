"""What runs now on this machine, and what it uses: runs of the store, and this process."""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.budget.free import held
from workbench.errors import WorkbenchError
from workbench.public import public
from workbench.records import Record
from workbench.store import Store
from workbench.store.processes import HOST

if TYPE_CHECKING:
    import pandas as pd
    import psutil

    from workbench.store import Run

SECONDS = 0.3
"""Length of looking at the processors."""
LONGEST = 60.0
NEWEST = 1000
"""Runs of the store that are looked through."""


@dataclass(frozen=True)
class Use:
    """What one thing uses.

    - `what`, `kind`: a run's title and kind; "this process"
    - `run`: its id; "" for this process
    - `processes`: the process and its children, theirs included
    - `cpu`: processors used while it was looked at, 1 for one whole core
    - `memory_gb`: resident memory of all its processes in GiB; shared pages count in each
    - `progress`: 0 to 1; `seconds`: since it began
    - `note`: such as that it runs on another host
    """

    what: str
    kind: str
    run: str
    pid: int
    processes: int
    cpu: float
    memory_gb: float
    progress: float
    seconds: float
    note: str


@dataclass(frozen=True)
class Usage(Record):
    """What runs now, and what the machine has left.

    - `cores`, `cpu`: of the machine, and how many of them are in use by anybody
    - `memory_gb`, `available_gb`: of the machine, in GiB
    - `gpu_memory_gb`, `gpu_free_gb`: 0 where there is no GPU
    - `models`, `model_gb`: names of models in this process's memory, and their parameters in GiB
    """

    uses: list[Use]
    cores: int
    cpu: float
    memory_gb: float
    available_gb: float
    gpu_memory_gb: float
    gpu_free_gb: float
    models: list[str]
    model_gb: list[float]

    def headline(self) -> str:
        """Runs, processors and memory in one line."""
        runs = sum(bool(use.run) for use in self.uses)
        return (
            f"{runs} {'run' if runs == 1 else 'runs'}; {self.cpu:.1f} of {self.cores} cores busy; "
            f"{self.available_gb:.1f} of {self.memory_gb:.1f} GiB free; models here: "
            f"{len(self.models)}, {sum(self.model_gb):.2f} GiB"
        )

    def to_frame(self) -> "pd.DataFrame":
        """One row for each thing that runs."""
        import pandas as pd

        names = list(Use.__dataclass_fields__)
        rows = [[getattr(use, name) for name in names] for use in self.uses]
        return pd.DataFrame(rows, columns=names)


@public()
def usage(*, seconds: float = SECONDS) -> Usage:
    """What runs now and what it uses: active runs of the store, with all their processes.

    Args:
        seconds: How long processors are looked at, 0.1 to 60.

    Raises:
        WorkbenchError: `seconds` is out of its range.
    """
    import psutil

    if not 0.1 <= seconds <= LONGEST:
        raise WorkbenchError(f"seconds is {seconds}; give a number from 0.1 to {LONGEST:g}.")
    runs = [run for run in Store().list(limit=NEWEST) if run.active]
    trees = {run.id: _tree(run.pid) if run.host == HOST else [] for run in runs}
    own_runs = {process.pid for tree in trees.values() for process in tree}
    # A worker that this process started counts for its run alone.
    own = [p for p in _tree(os.getpid()) if p.pid == os.getpid() or p.pid not in own_runs]
    before = _times([*own, *(process for tree in trees.values() for process in tree)])
    psutil.cpu_percent()
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    busy = psutil.cpu_percent() / 100 * (os.cpu_count() or 1)
    uses = [_use(run, trees[run.id], before, took) for run in runs]
    uses.append(_this(own, before, took))
    memory = psutil.virtual_memory()
    whole, free = _gpu()
    models = held()
    return Usage(
        uses=uses,
        cores=os.cpu_count() or 1,
        cpu=busy,
        memory_gb=memory.total / 2**30,
        available_gb=memory.available / 2**30,
        gpu_memory_gb=whole,
        gpu_free_gb=free,
        models=[name for name, _ in models],
        model_gb=[size for _, size in models],
    )


def _tree(pid: int) -> list["psutil.Process"]:
    """A process and all its descendants; empty if it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _times(processes: list["psutil.Process"]) -> dict[int, float]:
    """Seconds of the processor that each process has used so far; those that are gone are not in.

    Its own alone: what children used that have ended is counted while they live.
    """
    import psutil

    seconds = {}
    for process in processes:
        try:
            used = process.cpu_times()
        except psutil.Error:
            continue
        seconds[process.pid] = used.user + used.system
    return seconds


def _sums(
    tree: list["psutil.Process"], before: dict[int, float], took: float
) -> tuple[int, float, float]:
    """Processes that are left of a tree, the cores they used, and their resident memory in GiB."""
    import psutil

    after = _times(tree)
    memory = 0
    for process in tree:
        try:
            memory += process.memory_info().rss
        except psutil.Error:
            continue
    cpu = sum(used - before.get(pid, used) for pid, used in after.items()) / took
    return len(after), cpu, memory / 2**30


def _use(run: "Run", tree: list["psutil.Process"], before: dict[int, float], took: float) -> Use:
    n, cpu, memory = _sums(tree, before, took)
    note = "" if run.host == HOST else f"on {run.host}"
    if not note and not n:
        note = "waits for its process"
    began = run.started or run.created
    return Use(
        run.title,
        run.kind,
        run.id,
        run.pid,
        n,
        cpu,
        memory,
        run.progress,
        time.time() - began,
        note,
    )


def _this(tree: list["psutil.Process"], before: dict[int, float], took: float) -> Use:
    n, cpu, memory = _sums(tree, before, took)
    began = tree[0].create_time() if tree else time.time()
    return Use("this process", "app", "", os.getpid(), n, cpu, memory, 0.0, time.time() - began, "")


def _gpu() -> tuple[float, float]:
    """GiB of the GPU and how many are free; zeros where there is none, or torch is not loaded."""
    import sys

    if "torch" not in sys.modules:
        return 0.0, 0.0
    import torch

    if not torch.cuda.is_available():
        return 0.0, 0.0
    free, whole = torch.cuda.mem_get_info()
    return whole / 2**30, free / 2**30
