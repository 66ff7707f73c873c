"""Training on a GPU: the share of its arithmetic that is used, and time to nanoGPT's loss."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from workbench.errors import WorkbenchError
from workbench.speed.bare import BareGPT, BareLoop
from workbench.speed.race import WARM, race, settings_of
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
from workbench.training import resources
from workbench.training.loop import Stepper, Trainee
from workbench.training.recipe import Recipe

TARGET = 1.47
"""Nats per character on Tiny Shakespeare's last tenth: what nanoGPT's README reports of its 10.7 M
parameters.
"""
OURS = "shakespeare-char-large"
REFERENCE = "shakespeare-char-large-nanogpt"
MOST = 120.0
"""Seconds of training after which a side of the race gives up."""

Progress = Callable[[str], None]


def bench(progress: Progress) -> list[dict[str, Any]]:
    """Rows: tokens per second and model FLOPs utilisation of `gpt2-124m`, and the race to `TARGET`.

    Raises:
        WorkbenchError: There is no GPU.
    """
    if not torch.cuda.is_available():
        raise WorkbenchError("The bench gpu needs a GPU, and torch sees none here.")
    return [utilisation(progress), *race(progress, OURS, REFERENCE, TARGET, most=MOST)]


def utilisation(
    progress: Progress,
    name: str = "gpt2-124m",
    *,
    rows_at_once: int = 32,
    steps: int = 6,
    device: str = "cuda",
    shape: dict[str, Any] | None = None,
    compiles: bool = True,
) -> dict[str, Any]:
    """One row: a step of a recipe's shape on random tokens, ours against a bare PyTorch loop.

    MFU is the model's FLOPs (6 N + 12 L H d_head T per token, as in PaLM's appendix) over those of
    a large matrix product measured here, and over the card's datasheet.

    Args:
        progress: Called with what is being measured.
        name: The recipe.
        rows_at_once: Rows that are computed together; a step has as many as the recipe says.
        steps: Steps that are timed.
        device: Where it runs.
        shape: Changes of the recipe's `[model]`; also `batch_size` and `d_vocab`.
        compiles: Whether both are compiled.
    """
    recipe = Recipe.read(name)
    model = {**recipe.model, **(shape or {})}
    size = model.pop("batch_size", recipe.train.batch_size)
    d_vocab = model.pop("d_vocab", int(recipe.tokenizer["d_vocab"]))
    parts = max(1, size // rows_at_once)
    tokens = torch.randint(d_vocab, (size, model["n_ctx"] + 1), device=device)
    rows = (tokens[:, :-1], tokens[:, 1:])
    n_tokens = rows[0].numel()

    settings = replace(recipe.train, accumulate=parts, compile=compiles, steps=10**6)
    subject = WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**model, d_vocab=d_vocab))
    stepper = Stepper(Trainee(subject, _none()), settings)
    ours, ready = _seconds(lambda number: stepper.step(rows, number), steps, device)
    progress(f"{name}: {n_tokens / ours:,.0f} tokens/s, ready after {ready:.0f} s")
    memory = resources.peak_memory_gb(device)
    flops = n_tokens * stepper.flops_per_token(model["n_ctx"])
    measured = stepper.rate
    promised = resources.datasheet_rate(torch.cuda.get_device_name()) if device == "cuda" else None
    del stepper, subject

    bare = BareGPT(model, d_vocab).to(device)
    loop = BareLoop(bare, settings_of(recipe), compiles=compiles, parts=parts)
    theirs, their_ready = _seconds(lambda number: loop.step(rows, number), steps, device)
    n_bare = resources.n_parameters(bare) - bare.pos.weight.numel()
    attending = 12 * model["n_layers"] * model["d_model"] * model["n_ctx"]
    bare_flops = n_tokens * (6 * n_bare + attending)
    progress(f"bare loop: {n_tokens / theirs:,.0f} tokens/s, ready after {their_ready:.0f} s")
    return {
        "case": f"one step of {name} ({n_tokens:,} random tokens) against a bare PyTorch loop",
        "ours_s": ours,
        "reference_s": theirs,
        "ratio": theirs / ours,
        "n": steps,
        "tokens_per_s": n_tokens / ours,
        "reference_tokens_per_s": n_tokens / theirs,
        "matrix_tflops": measured / 1e12,
        "mfu": flops / ours / measured,
        "reference_mfu": bare_flops / theirs / measured,
        "datasheet_tflops": None if promised is None else promised / 1e12,
        "mfu_of_datasheet": None if promised is None else flops / ours / promised,
        "rows_at_once": rows_at_once,
        "compile_s": ready,
        "reference_compile_s": their_ready,
        "peak_memory_gb": memory,
    }


def _none() -> Any:
    """A trainee's tokenizer, where nothing is spelled."""
    return None


def _seconds(step: Callable[[int], Any], n: int, device: str) -> tuple[float, float]:
    """Seconds of a step, the mean of `n`, and of all that came before the first timed one."""
    began = time.perf_counter()
    for number in range(WARM):
        step(number)
    resources.synchronize(device)
    ready = time.perf_counter() - began
    began = time.perf_counter()
    for number in range(WARM, WARM + n):
        step(number)
    resources.synchronize(device)
    return (time.perf_counter() - began) / n, ready
