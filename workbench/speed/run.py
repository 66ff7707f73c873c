"""All speed benchmarks: ours against a reference in one process, with a check of equal results."""

from collections.abc import Callable
from typing import Any

import torch

from workbench.errors import WorkbenchError
from workbench.speed.timing import machine
from workbench.speed.training import bench_training

Progress = Callable[[str], None]


def bench_patching(
    progress: Progress, model: str = "SmolLM2-135M-Instruct.Q4_1"
) -> list[dict[str, Any]]:
    """Packed sweeps against `transformer_lens.patching`'s loops, and against the FLOPs needed."""
    from workbench.speed.patching import bench

    return bench(progress, model)


def bench_attention(
    progress: Progress, model: str = "SmolLM2-135M-Instruct.Q4_1.gguf"
) -> list[dict[str, Any]]:
    """Reading, scoring and drawing every head, against TransformerLens's cached patterns."""
    from workbench.speed.attention import bench

    return bench(progress, model)


def bench_eval(progress: Progress) -> list[dict[str, Any]]:
    """The benchmark engine against lm-eval's `hf` model."""
    from workbench.speed.evaluation import bench_eval

    return bench_eval(progress)


def bench_serve(progress: Progress) -> list[dict[str, Any]]:
    """The generation engine against transformers' `generate`."""
    from workbench.speed.serving import bench

    return bench(progress)


def bench_growth(progress: Progress) -> list[dict[str, Any]]:
    """A patching map's time over tokens, layers, width and pairs, against its arithmetic."""
    from workbench.speed.growth import bench

    return bench(progress)


def bench_costs(progress: Progress) -> list[dict[str, Any]]:
    """The time that `workbench costs` predicts against the time that was taken."""
    from workbench.speed.costs import bench

    return bench(progress)


def bench_gpu(progress: Progress) -> list[dict[str, Any]]:
    """Training on a GPU: its arithmetic that is used, and time to nanoGPT's loss."""
    from workbench.speed.gpu_training import bench

    return bench(progress)


BENCHES: dict[str, Callable[[Progress], list[dict[str, Any]]]] = {
    "attention": bench_attention,
    "costs": bench_costs,
    "patching": bench_patching,
    "growth": bench_growth,
    "eval": bench_eval,
    "serve": bench_serve,
    "training": bench_training,
    "gpu": bench_gpu,
}
NEED_GPU = ("gpu",)
"""Benches that `all` leaves out where there is none."""


def run(name: str, progress: Progress = lambda message: None) -> dict[str, Any]:
    """The record of one benchmark: name, machine and rows.

    Args:
        name: One of `BENCHES`, or `all`; the rows of all say which bench they are of.
        progress: Called with what is being measured.

    Raises:
        WorkbenchError: For an unknown name.
    """
    if name == "all":
        rows = [
            {"bench": bench, **row}
            for bench, measure in BENCHES.items()
            if bench not in NEED_GPU or torch.cuda.is_available()
            for row in measure(progress)
        ]
        return {"bench": name, "machine": machine(), "rows": rows}
    if name not in BENCHES:
        raise WorkbenchError(f"No bench {name!r}; there are {', '.join(BENCHES)} and all.")
    return {"bench": name, "machine": machine(), "rows": BENCHES[name](progress)}
