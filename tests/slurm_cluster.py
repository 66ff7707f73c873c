"""A Slurm of its own for tests, from Debian's packages; its one node is this machine.

Jobs in its partition `urgent` take the place of those in `main`, which are told some time before
and then queued again. Processors and memory are counted, and not held to.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

FOLDERS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CPUS = 2
MEMORY_GB = 4
GRACE = 60
"""Seconds between the word that a job is preempted and its end."""
KILL_WAIT = 5
"""Seconds between the word that a job is cancelled and its end."""
PATIENCE = 60.0
"""Seconds that the node may take until it is ready."""
CONF = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait={kill_wait}
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
NodeName=localhost CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES State=UP PriorityTier=1 GraceTime={grace}
PartitionName=urgent Nodes=localhost State=UP PriorityTier=9 PreemptMode=OFF
"""


def missing() -> list[str]:
    """The programs that a Slurm needs and that are not installed."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
    return [name for name in programs if shutil.which(name, path=FOLDERS) is None]


@contextmanager
def cluster() -> Iterator["Cluster"]:
    """A running Slurm with files of its own."""
    # Not in pytest's folder: munged wants its socket where all may look, and a short path to it.
    with TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        running = Cluster(Path(folder))
        try:
            running.start()
            yield running
        finally:
            running.stop()


class Cluster:
    """A Slurm on free ports of this machine; `conf` is what `SLURM_CONF` names for its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self._own = {**os.environ, "PATH": FOLDERS, "SLURM_CONF": str(self.conf)}
        self._daemons: list[subprocess.Popen[bytes]] = []
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        user = pwd.getpwuid(os.geteuid()).pw_name
        text = CONF.format(
            folder=folder,
            ports=_free_ports(2),
            user=user,
            cpus=CPUS,
            memory=MEMORY_GB * 1024,
            grace=GRACE,
            kill_wait=KILL_WAIT,
        )
        self.conf.write_text(text)

    def start(self) -> None:
        """Start Slurm and wait until its node is ready."""
        at = self.folder
        self._daemon("munged", "--foreground", f"--key-file={at}/key", f"--socket={at}/socket",
                     f"--pid-file={at}/munged.pid", f"--log-file={at}/munged.log",
                     f"--seed-file={at}/seed", "--num-threads=10")  # fmt: skip
        self._until(lambda: (at / "socket").exists(), "munged")
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", "localhost")
        self._until(lambda: "State=IDLE" in self.ask("scontrol", "show", "node"), "the node")

    def stop(self) -> None:
        """End all jobs, then Slurm and whatever is left of them."""
        self.ask("scancel", "--full", "--partition=main,urgent")
        end = time.monotonic() + 3 * KILL_WAIT
        while self.queue() and time.monotonic() < end:
            time.sleep(0.1)
        end = time.monotonic() + PATIENCE
        while (left := self.processes()) and time.monotonic() < end:
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=1)
        for daemon in self._daemons:
            daemon.wait()
        assert not left, left

    def processes(self) -> list[psutil.Process]:
        """The daemons, the jobs that they have started, and the steward of each job."""
        mine = set()
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURM_CONF") != str(self.conf):
                    continue
                steward = process.parent()  # it has wiped its own environment
                if steward is not None and steward.name() == "slurmstepd":
                    mine.add(steward)
                if process.status() != psutil.STATUS_ZOMBIE:
                    mine.add(process)
            except psutil.Error:
                continue
        return list(mine)

    def ask(self, *command: object) -> str:
        """What a command of Slurm prints; "" where it fails."""
        done = subprocess.run(
            [str(word) for word in command], env=self._own, capture_output=True, text=True
        )
        return done.stdout if done.returncode == 0 else ""

    def queue(self) -> list[str]:
        """The states of all jobs that have not ended, such as PENDING."""
        return self.ask("squeue", "--noheader", "--array", "--format=%T").split()

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("wb") as log:
            command = [name, *arguments]
            running = subprocess.Popen(
                command, env=self._own, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._daemons.append(running)

    def _until(self, ready, what: str) -> None:
        """Wait for a part of Slurm; where it does not come, fail with the logs."""
        end = time.monotonic() + PATIENCE
        while not ready():
            logs = [f"{log.name}:\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.out")]
            assert time.monotonic() < end, "\n".join([f"{what} is not ready", *logs])
            time.sleep(0.1)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
