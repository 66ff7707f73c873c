"""Who runs a run: the identity of a process, and whether it still lives."""

import socket
from typing import Any

import psutil

HOST = socket.gethostname()


def identity(pid: int) -> dict[str, Any]:
    """Number and start of a process, which together no other process will bear.

    The start is in seconds since boot, because the time of day moves when the clock is set.
    """
    try:
        started = psutil.Process(pid).create_time() - psutil.boot_time()
    except psutil.Error:  # gone already: a start that no process has
        started = -1.0
    return {"pid": pid, "pid_started": started, "host": HOST}


def alive(pid: int, started: float) -> bool:
    """Whether the process with this `identity` still works; a zombie does not."""
    try:
        process = psutil.Process(pid)
        # The boot time is whole seconds, so the difference may jump by one.
        same = abs(process.create_time() - psutil.boot_time() - started) < 1.5
        # A process on its way out loses its memory before it becomes a zombie. (Its command line
        # too, but that of one which is just coming up is empty as well.)
        return same and process.status() != psutil.STATUS_ZOMBIE and process.memory_info().vms > 0
    except psutil.Error:
        return False


def is_worker(pid: int, run_id: str) -> bool:
    """Whether the process was started for this run alone, and so may be killed with it."""
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return run_id in command and "workbench.store.worker" in command
