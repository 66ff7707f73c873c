"""Timing two ways in turn on one machine."""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

LONG = 60.0
"""Seconds after which one measurement is enough."""


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu,
        "torch": torch.__version__,
    }


def in_turn(
    ours: Callable[[], Any], reference: Callable[[], Any], n: int = 3
) -> tuple[Any, Any, dict[str, Any]]:
    """Run both in turn `n` times (once where a turn takes over a minute): last results, median
    seconds, ratio.
    """
    times: tuple[list[float], list[float]] = ([], [])
    found: list[Any] = [None, None]
    for _ in range(n):
        for side, run in enumerate((ours, reference)):
            if times[side] and times[side][0] > LONG:
                continue
            began = time.perf_counter()
            found[side] = run()
            times[side].append(time.perf_counter() - began)
    ours_s, reference_s = (statistics.median(t) for t in times)
    row = {
        "ours_s": ours_s,
        "reference_s": reference_s,
        "ratio": reference_s / ours_s,
        "n": len(times[0]),
    }
    return found[0], found[1], row
