"""The race to a loss: our recipe against nanoGPT's settings, in our loop and in a bare one."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from workbench.speed.bare import BareGPT, BareLoop, Rows, segments
from workbench.training import resources
from workbench.training.loop import Stepper, mean_loss
from workbench.training.pretrain import batches, setup
from workbench.training.recipe import Recipe

WARM = 3
"""Steps before the clock starts: the second of them compiles."""

Progress = Callable[[str], None]
Evaluations = Iterator[tuple[int, float, float]]
"""(steps done, seconds of training so far, loss) at each evaluation."""


def race(
    progress: Progress,
    ours: str,
    reference: str,
    target: float,
    *,
    compiles: bool = True,
    most: float = math.inf,
) -> list[dict[str, Any]]:
    """Two rows: our recipe to a loss, against nanoGPT's settings in our loop and in a bare one.

    The sides go on in turn, from evaluation to evaluation, so that a noisy machine disturbs all.
    Evaluating is not part of the seconds; nor is compiling, as it does not grow with the run.

    Args:
        progress: Called at every evaluation.
        ours: Name of our recipe.
        reference: Name of the recipe with nanoGPT's settings.
        target: The validation loss to reach, in nats.
        compiles: Whether all sides are compiled.
        most: Seconds of training after which a side gives up.
    """
    sides = {
        ours: training(Recipe.read(ours), compiles),
        f"{reference} in our loop": training(Recipe.read(reference), compiles),
        f"{reference} in a bare loop": bare_training(Recipe.read(reference), compiles),
    }
    ends = {side: (0, 0.0, math.inf) for side in sides}
    running = list(sides)
    while running:
        for side in list(running):
            end = next(sides[side][0], None)
            if end is not None:
                ends[side] = end
                step, seconds, loss = end
                progress(f"{side}: step {step}, {seconds:.2f} s, validation loss {loss:.4f}")
            if end is None or end[2] <= target or end[1] > most:
                running.remove(side)
    own, *others = ((side, (*ends[side], sides[side][1])) for side in sides)
    return [_raced(target, own, other) for other in others]


def _raced(target: float, own: tuple[str, Any], other: tuple[str, Any]) -> dict[str, Any]:
    """The row of two sides, each by its name, steps, seconds, loss and seconds to be ready."""
    name, (steps, seconds, loss, ready) = own
    side, (their_steps, their_seconds, their_loss, their_ready) = other
    reached = loss <= target
    return {
        "case": f"Tiny Shakespeare by characters to a loss of {target}: {name} against {side}",
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


def training(recipe: Recipe, compiles: bool | None = None) -> tuple[Evaluations, float]:
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


def bare_training(recipe: Recipe, compiles: bool = True) -> tuple[Evaluations, float]:
    """Evaluations of nanoGPT's settings in a bare loop, and the seconds until it was ready."""
    began = time.perf_counter()
    trainee, tokens = setup(recipe)
    batch, held = batches(recipe, trainee, tokens)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(recipe.train.seed)
    model = BareGPT(recipe.model, len(trainee.tokenizer)).to(device)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    loop = BareLoop(model, settings_of(recipe), compiles=compiles)
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


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """What a bare loop needs of a recipe's `[train]`."""
    train = recipe.train
    names = ("steps", "lr", "min_lr", "warmup", "beta2")
    return {name: getattr(train, name) for name in names}
