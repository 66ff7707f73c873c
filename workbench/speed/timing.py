"""Timing two implementations in turn on one machine."""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

LONG = 60.0
"""Seconds beyond which a single measurement is enough."""


def machine() -> dict[str, Any]:
    """The machine on which figures are measured: processor, memory, GPU, torch's version."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu,
        "torch": torch.__version__,
    }


def median_seconds(run: Callable[[], Any], n: int = 3) -> float:
    """The median time of `n` runs, in seconds."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def in_turn(
    ours: Callable[[], Any], reference: Callable[[], Any], n: int = 3
) -> tuple[Any, Any, dict[str, Any]]:
    """Run two functions in turn, so that a noisy machine disturbs both alike.

    Args:
        ours: Our implementation.
        reference: The one to compare with.
        n: Runs of each; only one if a run takes more than a minute.

    Returns:
        The last results of both, and a row with median seconds, their ratio, n, and the ratio's
        `spread`: the range of the ratios of single runs, as a share of the ratio; None for one run.
    """
    times: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for _ in range(n):
        for side, run in enumerate((ours, reference)):
            if times[side] and times[side][0] > LONG:
                continue
            began = time.perf_counter()
            results[side] = run()
            times[side].append(time.perf_counter() - began)
    ours_s, reference_s = (statistics.median(t) for t in times)
    ratio = reference_s / ours_s
    singles = [theirs / own for own, theirs in zip(*times, strict=False)]
    row = {
        "ours_s": ours_s,
        "reference_s": reference_s,
        "ratio": ratio,
        "n": len(times[0]),
        "spread": (max(singles) - min(singles)) / ratio if len(singles) > 1 else None,
    }
    return results[0], results[1], row
