"""Speed, side by side in one process: ours against a reference, with the check that both say the same."""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from workbench.errors import WorkbenchError
from workbench.training.bench import bench_training

LONG = 60.0
"""Seconds after which one measurement is enough."""

Progress = Callable[[str], None]


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


def in_turn(ours: Callable[[], Any], reference: Callable[[], Any], n: int = 3) -> tuple[Any, Any, dict[str, Any]]:
    """Run both in turn `n` times (once where a turn takes over a minute): last results, median seconds, ratio."""
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
    row = {"ours_s": ours_s, "reference_s": reference_s, "ratio": reference_s / ours_s, "n": len(times[0])}
    return found[0], found[1], row


def bench_patching(progress: Progress, model: str = "SmolLM2-135M-Instruct.Q4_1") -> list[dict[str, Any]]:
    """Packed sweeps against `transformer_lens.patching`'s loops, and their growth against the FLOPs floor."""
    from workbench.bench_patching import bench

    return bench(progress, model)


def bench_attention(progress: Progress, model: str = "SmolLM2-135M-Instruct.Q4_1.gguf") -> list[dict[str, Any]]:
    """Every head of a prompt, drawn and scored, against TransformerLens's cache of patterns."""
    from workbench.bench_attention import bench

    return bench(progress, model)


def bench_eval(progress: Progress) -> list[dict[str, Any]]:
    """The benchmark engine against lm-eval's `hf` model: `workbench.benchmarks.bench`."""
    from workbench.benchmarks.bench import bench_eval

    return bench_eval(progress)


BENCHES: dict[str, Callable[[Progress], list[dict[str, Any]]]] = {
    "attention": bench_attention,
    "patching": bench_patching,
    "eval": bench_eval,
    "training": bench_training,
}


def run(name: str, progress: Progress = lambda message: None) -> dict[str, Any]:
    """One bench as a JSON-able record. Raises `WorkbenchError` for a name that is none."""
    if name not in BENCHES:
        raise WorkbenchError(f"No bench {name!r}; there are {', '.join(BENCHES)}.")
    return {"bench": name, "machine": machine(), "rows": BENCHES[name](progress)}
