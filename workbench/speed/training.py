"""Speed of training: time to a loss against nanoGPT's settings, and a step against a bare loop."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from workbench.speed.bare import segments
from workbench.training.loop import Stepper, Trainee, mean_loss
from workbench.training.pretrain import batches, setup
from workbench.training.recipe import Recipe
from workbench.training.resources import synchronize

TARGET = 1.88
"""Nats per character on Tiny Shakespeare's last tenth: nanoGPT's CPU settings after 2,000 steps."""

Progress = Callable[[str], None]


def bench_training(
    progress: Progress, ours: str = "shakespeare-char", reference: str = "shakespeare-char-nanogpt"
) -> list[dict[str, Any]]:
    """Two rows: seconds of training to the loss `TARGET`, and of one step against a bare loop.

    Args:
        progress: Called with what is being measured.
        ours: Name of our recipe.
        reference: Name of the recipe with nanoGPT's settings.
    """
    return [_race(progress, ours, reference), _step(progress, reference)]


def _race(progress: Progress, ours: str, reference: str) -> dict[str, Any]:
    """Train both recipes in turn until their validation loss is at most `TARGET`."""
    sides = {name: _training(Recipe.read(name)) for name in (ours, reference)}
    seconds = dict.fromkeys(sides, 0.0)
    losses = dict.fromkeys(sides, float("inf"))
    steps = dict.fromkeys(sides, 0)
    while running := [name for name in sides if losses[name] > TARGET]:
        for name in running:  # in turn, so that a noisy machine disturbs both
            evaluation = next(sides[name], None)
            if evaluation is None:
                sides.pop(name)
                continue
            steps[name], seconds[name], losses[name] = evaluation
            progress(
                f"{name}: step {steps[name]}, {seconds[name]:.1f} s, validation loss "
                f"{losses[name]:.4f}"
            )
        if not any(name in sides for name in running):
            break
    return {
        "case": (
            f"Tiny Shakespeare characters to validation loss {TARGET}: {ours} against {reference}"
        ),
        "ours_s": seconds[ours],
        "reference_s": seconds[reference],
        "ratio": seconds[reference] / seconds[ours] if losses[ours] <= TARGET else float("nan"),
        "ours_loss": losses[ours],
        "reference_loss": losses[reference],
        "ours_steps": steps[ours],
        "reference_steps": steps[reference],
        "note": ""
        if losses[reference] <= TARGET
        else "the reference ended above the target: the ratio is at least this",
    }


def _training(recipe: Recipe) -> Iterator[tuple[int, float, float]]:
    """(step, seconds of training so far, validation loss) at every evaluation of a recipe."""
    trainee, tokens = setup(recipe)
    batch, held = batches(recipe, trainee, tokens)
    stepper = Stepper(trainee, recipe.train)
    yield from segments(
        lambda number: stepper.step(batch(number), number),
        lambda: mean_loss(stepper.accelerator, stepper.best_model, held),
        partial(synchronize, stepper.device),
        recipe.train.steps,
        recipe.train.eval_every,
    )


def _step(progress: Progress, name: str, n: int = 60) -> dict[str, Any]:
    """Our step against a plain PyTorch loop with the same model, batches and AdamW, in turn."""
    recipe = Recipe.read(name)
    trainee, tokens = setup(recipe)
    batch, _ = batches(recipe, trainee, tokens)
    twin = type(trainee.model)(trainee.model.config)
    twin.load_state_dict(trainee.model.state_dict())
    stepper = Stepper(Trainee(trainee.model, trainee.tokenizer), recipe.train)
    twin.to(stepper.accelerator.device)
    adamw = torch.optim.AdamW(twin.parameters(), lr=1e-5, fused=True)

    def bare(inputs: torch.Tensor, targets: torch.Tensor) -> float:
        with stepper.accelerator.autocast():
            logits = twin(inputs, use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), recipe.train.clip)
        adamw.step()
        adamw.zero_grad()
        return loss.item()

    times: dict[str, list[float]] = {"ours": [], "bare": []}
    first: dict[str, float] = {}
    for step in range(n + 5):
        rows: Any = batch(step)  # two tensors: a decoder's inputs are one text
        inputs, targets = (x.to(stepper.accelerator.device) for x in rows)
        for side in times:
            began = time.perf_counter()
            if side == "ours":
                loss = float(stepper.step((inputs, targets), step)[0])
            else:
                loss = bare(inputs, targets)
            times[side].append(time.perf_counter() - began)
            first.setdefault(side, loss)
    # The first five steps warm up.
    seconds = {side: statistics.median(measured[5:]) for side, measured in times.items()}
    progress(
        f"a step of {name}: ours {seconds['ours'] * 1e3:.1f} ms, bare loop "
        f"{seconds['bare'] * 1e3:.1f} ms"
    )
    return {
        "case": f"one step of {name} against a bare PyTorch loop",
        "ours_s": seconds["ours"],
        "reference_s": seconds["bare"],
        "ratio": seconds["bare"] / seconds["ours"],
        "n": n,
        "max_abs_diff": abs(first["ours"] - first["bare"]),
    }
