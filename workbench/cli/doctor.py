"""Is this machine ready? Each check reports what it found and, if it failed, what to do."""

import os
import time
from collections.abc import Callable
from typing import Any

from workbench import paths
from workbench.errors import WorkbenchError


def checks() -> list[dict[str, Any]]:
    """One row per check: `check`, `ok`, `found`."""
    by_name = {
        "device": _device,
        "threads": _threads,
        "memory": _memory,
        "home": _home,
        "offline folders": _folders,
        "bundled models": _bundled,
        "background runs": _background,
        "speed": _speed,
    }
    return [_checked(name, check) for name, check in by_name.items()]


def _checked(name: str, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row of a check; one that raises has failed, and the others still run."""
    try:
        return check()
    except WorkbenchError as error:
        return _row(name, False, str(error))


def _row(check: str, ok: bool, result: str) -> dict[str, Any]:
    return {"check": check, "ok": ok, "found": result}


def _device() -> dict[str, Any]:
    import torch

    name = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {os.cpu_count()} cores"
    )
    return _row("device", True, f"{name}, torch {torch.__version__}")


def _threads() -> dict[str, Any]:
    from workbench import threads

    threads.fit()
    time.sleep(threads.WINDOW + 0.1)  # over which the load of others shows
    choice = threads.fit(again=True)
    return _row("threads", True, f"{choice.threads} of {choice.most}: {choice.why}")


def _memory() -> dict[str, Any]:
    from workbench import memory

    return _row("memory", True, f"caches may hold {memory.budget() / 1e9:g} GB over the weights")


def _home() -> dict[str, Any]:
    folder = paths.home()
    usable = os.access(folder, os.W_OK)
    return _row(
        "home", usable, f"{folder}" + ("" if usable else " is not writable; set WORKBENCH_HOME")
    )


def _folders() -> dict[str, Any]:
    data = paths.data_folder()
    models = paths.models_folder()
    return _row(
        "offline folders",
        True,
        f"WORKBENCH_DATA: {data or 'not set'}; WORKBENCH_MODELS: {models or 'not set'}",
    )


def _bundled() -> dict[str, Any]:
    from workbench.subjects import available

    names = [a.name for a in available() if a.kind == "bundled"]
    return _row("bundled models", bool(names), ", ".join(names) or "none; reinstall the package")


def _background() -> dict[str, Any]:
    from workbench.store import Store, jobs

    store = Store()
    run = jobs.start("sleep", "doctor", {"seconds": 0.1, "obey": True}, store=store)
    for _ in range(100):
        run = store.get(run.id)
        if not run.active:
            break
        time.sleep(0.1)
    else:
        jobs.cancel(run.id, store=store)
        run = store.get(run.id)
    if run.status == "done":
        store.delete(run.id)
        return _row("background runs", True, "a run started, worked and ended")
    return _row(
        "background runs", False, f"a test run ended as {run.status}: {jobs.tail(run.id, 3)}"
    )


def _speed() -> dict[str, Any]:
    from workbench.budget.machine import machine

    return _row("speed", True, machine().headline())
