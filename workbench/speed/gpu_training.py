"""Training on a GPU: the share of its arithmetic that is used, and time to nanoGPT's loss."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from workbench.errors import WorkbenchError
from workbench.speed.bare import BareGPT, BareLoop, Rows, segments
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
from workbench.training import resources
from workbench.training.loop import Stepper, Trainee, mean_loss
from workbench.training.pretrain import batches, setup
from workbench.training.recipe import Recipe

TARGET = 1.47
"""Nats per character on Tiny Shakespeare's last tenth: what nanoGPT's README reports of its 10.7 M
parameters.
"""
OURS = "shakespeare-char-large"
REFERENCE = "shakespeare-char-large-nanogpt"
WARM = 3
"""Steps before the clock starts: the second of them compiles."""

Progress = Callable[[str], None]


def bench(progress: Progress) -> list[dict[str, Any]]:
    """Rows: tokens per second and model FLOPs utilisation of `gpt2-124m`, and the race to `TARGET`.

    Raises:
        WorkbenchError: There is no GPU.
    """
    if not torch.cuda.is_available():
        raise WorkbenchError("The bench gpu needs a GPU, and torch sees none here.")
    return [utilisation(progress), *race(progress)]


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
    loop = BareLoop(bare, _words(recipe), compiles=compiles, parts=parts)
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


def race(
    progress: Progress,
    *,
    target: float = TARGET,
    ours: str = OURS,
    reference: str = REFERENCE,
    compiles: bool = True,
    most: float = 120.0,
) -> list[dict[str, Any]]:
    """Two rows: our recipe to a loss, against nanoGPT's settings in our loop and in a bare one.

    Compiling is not part of the seconds, as it does not grow with the run; each side's is told.

    Args:
        progress: Called at every evaluation.
        target: The validation loss to reach.
        ours: Name of our recipe.
        reference: Name of the recipe with nanoGPT's settings.
        compiles: Whether all sides are compiled.
        most: Seconds of training after which a side gives up.
    """
    sides = {
        "ours": partial(training, Recipe.read(ours), compiles),
        "nanoGPT's settings in our loop": partial(training, Recipe.read(reference), compiles),
        "nanoGPT's settings in a bare loop": partial(
            bare_training, Recipe.read(reference), compiles
        ),
    }
    ends = {}
    for side, begin in sides.items():
        before = time.perf_counter()
        run, ready = begin()
        end = (0, 0.0, float("inf"))
        for end in run:
            progress(f"{side}: step {end[0]}, {end[1]:.2f} s, validation loss {end[2]:.4f}")
            if end[2] <= target or end[1] > most:
                break
        del run
        ends[side] = (*end, ready)
        progress(f"{side}: {time.perf_counter() - before:.0f} s in all, {ready:.1f} s to be ready")
    own, *others = ends.items()
    return [_raced(target, own, other) for other in others]


def _raced(target: float, own: tuple[str, Any], other: tuple[str, Any]) -> dict[str, Any]:
    _, (steps, seconds, loss, ready) = own
    side, (their_steps, their_seconds, their_loss, their_ready) = other
    reached = loss <= target
    return {
        "case": f"Tiny Shakespeare characters, 10.7 M parameters, to {target}: ours against {side}",
        "ours_s": seconds,
        "reference_s": their_seconds,
        "ratio": their_seconds / seconds if reached else float("nan"),
        "ours_loss": loss,
        "reference_loss": their_loss,
        "ours_steps": steps,
        "reference_steps": their_steps,
        "compile_s": ready,
        "reference_compile_s": their_ready,
        "note": ""
        if their_loss <= target
        else "the reference ended above the target: the ratio is at least this",
    }


def training(
    recipe: Recipe, compiles: bool | None = None
) -> tuple[Iterator[tuple[int, float, float]], float]:
    """Evaluations of a recipe (see `segments`), and the seconds until it was ready to begin."""
    began = time.perf_counter()
    trainee, tokens = setup(recipe)
    batch, held = batches(recipe, trainee, tokens)
    settings = replace(recipe.train, compile=recipe.train.compile if compiles is None else compiles)
    first = {name: value.clone() for name, value in trainee.model.state_dict().items()}
    stepper = Stepper(trainee, settings)
    wait = partial(resources.synchronize, stepper.device)
    if compiles:
        _warm(stepper, batch, first)
    wait()
    ready = time.perf_counter() - began
    run = segments(
        lambda number: stepper.step(batch(number), number),
        lambda: mean_loss(stepper.accelerator, stepper.best_model, held),
        wait,
        settings.steps,
        settings.eval_every,
    )
    return run, ready


def _warm(stepper: Stepper, batch: Callable[[int], Any], first: dict[str, Any]) -> None:
    """Do the steps that compile, and put weights and optimisers back to the beginning."""
    for number in range(WARM):
        stepper.step(batch(number), number)
    stepper.best_model.load_state_dict(first)
    for opt in stepper.opts:
        opt.optimizer.state.clear()


def bare_training(
    recipe: Recipe, compiles: bool = True
) -> tuple[Iterator[tuple[int, float, float]], float]:
    """Evaluations of nanoGPT's settings in a bare loop, and the seconds until it was ready."""
    began = time.perf_counter()
    trainee, tokens = setup(recipe)
    batch, held = batches(recipe, trainee, tokens)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(recipe.train.seed)
    model = BareGPT(recipe.model, len(trainee.tokenizer)).to(device)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    loop = BareLoop(model, _words(recipe), compiles=compiles)
    rows: Any = batch
    for number in range(WARM if compiles else 0):
        loop.step(rows(number), number)
    model.load_state_dict(first)
    loop.adamw.state.clear()
    wait = partial(resources.synchronize, device)
    wait()
    ready = time.perf_counter() - began
    validation: list[Rows] = [(x, y) for x, y in held if isinstance(x, torch.Tensor)]
    settings = recipe.train
    run = segments(
        lambda number: loop.step(rows(number), number),
        lambda: loop.mean_loss(validation),
        wait,
        settings.steps,
        settings.eval_every,
    )
    return run, ready


def _words(recipe: Recipe) -> dict[str, Any]:
    train = recipe.train
    names = ("steps", "lr", "min_lr", "warmup", "beta2")
    return {name: getattr(train, name) for name in names}


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
