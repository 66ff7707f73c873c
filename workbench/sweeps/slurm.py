"""Workers as jobs of Slurm: how they are asked for, whether any is left, and how they are ended."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError

LOOK = 5.0
"""Seconds between two questions to Slurm's queue."""
ANSWER = 60.0
"""Seconds that Slurm has for an answer."""
LEAST = 5
"""Minutes of a worker; Slurm's word 90 s before their end may come 60 s early."""
UNKNOWN = "Invalid job id"
"""What `squeue` says of a job that has ended a while ago."""


@dataclass(frozen=True)
class Resources:
    """What each worker is given on a cluster.

    - `minutes`: how long it may take; a worker that is cut off is started again
    - `cpus`, `gpus`, `memory_gb`: of one worker; memory 0 leaves it to the cluster
    - `partition`: Slurm's, "" for its default
    - `options`: more of sbatch's options by name, such as `{"account": "mine", "qos": "low"}`
    """

    minutes: int = 1440
    cpus: int = 2
    gpus: int = 0
    memory_gb: float = 16
    partition: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.minutes < LEAST:
            raise WorkbenchError(
                f"A worker needs {LEAST} minutes at least, not {self.minutes}: it is told to leave "
                "up to two and a half before its time is over."
            )

    def parameters(self) -> dict[str, Any]:
        """Submitit's parameters for these; what is not asked for is left to the cluster."""
        given = {
            "gpus_per_node": self.gpus or None,
            "mem_gb": self.memory_gb or None,
            "slurm_partition": self.partition or None,
        }
        return {
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "slurm_additional_parameters": {"requeue": True, **self.options},
            # Since 22.05, srun does not take the number of processors from sbatch; and where sbatch
            # was told to export nothing, srun would keep back what submitit's script sets.
            "slurm_srun_args": [f"--cpus-per-task={self.cpus}", "--export=ALL"],
            **{name: value for name, value in given.items() if value is not None},
        }


def options_of(words: Sequence[str]) -> dict[str, str]:
    """Options of sbatch by name, of words such as "account=mine".

    Raises:
        WorkbenchError: For a word without a name and a value.
    """
    options = {}
    for word in words:
        name, sign, value = word.removeprefix("--").partition("=")
        if not (name and sign and value):
            raise WorkbenchError(f"--sbatch takes NAME=VALUE, such as account=mine, not {word!r}.")
        options[name] = value
    return options


def refusal(error: Exception) -> str:
    """Why sbatch took no job, in its own words."""
    lines = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines()]
    return " ".join(line.rstrip(".") + "." for line in lines if line.strip())


def has_grace() -> bool:
    """Whether this process is of a job of Slurm that is not being ended.

    A worker that is told to end is asked this: it is then preempted with some time of grace, and
    Slurm does not start it again by itself if it leaves before that is over.
    """
    job = os.environ.get("SLURM_JOB_ID")
    answer = job and _answer("squeue", "--noheader", "--format=%T", f"--jobs={job}")
    return bool(answer) and answer.stdout.strip() == "RUNNING"


class SlurmJobs:
    """Workers in Slurm's queue.

    Slurm is asked by `squeue`, which answers on every cluster; `sacct`, which submitit asks, does
    not where no accounting is set up.

    Args:
        ids: Of the jobs; of an array's, such as 12_0, the array's counts.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.n = len(ids)
        self._ids = sorted({one.partition("_")[0] for one in ids})
        self._looked = time.monotonic()

    def gone(self) -> bool:
        """Whether no worker runs or waits any more; False as long as Slurm does not say."""
        if time.monotonic() - self._looked < LOOK:
            return False
        self._looked = time.monotonic()
        answer = _answer("squeue", "--noheader", "--format=%i", f"--jobs={','.join(self._ids)}")
        if answer is None:
            return False
        if answer.returncode:
            return UNKNOWN in answer.stderr
        return not answer.stdout.strip()

    def withdraw(self) -> None:
        """Take back the workers that still wait in the queue."""
        _answer("scancel", "--state=PENDING", *self._ids)

    def cancel(self) -> None:
        """End all workers."""
        _answer("scancel", *self._ids)


def _answer(*command: str) -> "subprocess.CompletedProcess[str] | None":
    """What a command of Slurm answers; None where there is no answer in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return None
