"""Speed, side by side in one process: ours against a reference, with the check that both say the
same.
"""

from collections.abc import Callable
from typing import Any

from workbench.errors import WorkbenchError
from workbench.speed.timing import machine
from workbench.speed.training import bench_training

Progress = Callable[[str], None]


def bench_patching(
    progress: Progress, model: str = "SmolLM2-135M-Instruct.Q4_1"
) -> list[dict[str, Any]]:
    """Packed sweeps against `transformer_lens.patching`'s loops, and their growth against the FLOPs
    floor.
    """
    from workbench.speed.patching import bench

    return bench(progress, model)


def bench_attention(
    progress: Progress, model: str = "SmolLM2-135M-Instruct.Q4_1.gguf"
) -> list[dict[str, Any]]:
    """Every head of a prompt, drawn and scored, against TransformerLens's cache of patterns."""
    from workbench.speed.attention import bench

    return bench(progress, model)


def bench_eval(progress: Progress) -> list[dict[str, Any]]:
    """The benchmark engine against lm-eval's `hf` model: `workbench.benchmarks.bench`."""
    from workbench.speed.evaluation import bench_eval

    return bench_eval(progress)


def bench_serve(progress: Progress) -> list[dict[str, Any]]:
    """The generation engine against transformers' `generate`: `workbench.bench_serve`."""
    from workbench.speed.serving import bench

    return bench(progress)


BENCHES: dict[str, Callable[[Progress], list[dict[str, Any]]]] = {
    "attention": bench_attention,
    "patching": bench_patching,
    "eval": bench_eval,
    "serve": bench_serve,
    "training": bench_training,
}


def run(name: str, progress: Progress = lambda message: None) -> dict[str, Any]:
    """One bench as a JSON-able record. Raises `WorkbenchError` for a name that is none."""
    if name not in BENCHES:
        raise WorkbenchError(f"No bench {name!r}; there are {', '.join(BENCHES)}.")
    return {"bench": name, "machine": machine(), "rows": BENCHES[name](progress)}
