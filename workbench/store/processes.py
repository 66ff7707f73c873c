"""Processes behind runs: their identity, and whether they are still alive."""

import socket
from typing import Any

import psutil

HOST = socket.gethostname()


def identity(pid: int) -> dict[str, Any]:
    """Pid, start time and host, which together identify a process for ever.

    The start is in seconds since boot, because the time of day jumps when the clock is set.
    """
    try:
        started = psutil.Process(pid).create_time() - psutil.boot_time()
    except psutil.Error:  # gone already: use a start that no process has
        started = -1.0
    return {"pid": pid, "pid_started": started, "host": HOST}


def alive(pid: int, started: float) -> bool:
    """Whether the process with this `identity` is alive; a zombie is not."""
    try:
        process = psutil.Process(pid)
        # The boot time is in whole seconds, so the difference may jump by one.
        same = abs(process.create_time() - psutil.boot_time() - started) < 1.5
        # An exiting process loses its memory before it becomes a zombie. (It loses its command line
        # too, but a starting process has none either.)
        return same and process.status() != psutil.STATUS_ZOMBIE and process.memory_info().vms > 0
    except psutil.Error:
        return False


def is_worker(pid: int, run_id: str) -> bool:
    """Whether the process is the worker of this run, and so may be killed with it."""
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return run_id in command and "workbench.store.worker" in command
