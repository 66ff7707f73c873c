"""How fast the trainer is: time to a loss against nanoGPT's hyperparameters, and a step against a
bare loop.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from workbench.training.loop import Stepper, Trainee, mean_loss
from workbench.training.pretrain import batches, setup
from workbench.training.recipe import Recipe

TARGET = 1.88
"""Nats a character of Tiny Shakespeare's last tenth: what nanoGPT's CPU setting reaches in its
2,000 iterations.
"""

Progress = Callable[[str], None]


def bench_training(
    progress: Progress, ours: str = "shakespeare-char", reference: str = "shakespeare-char-nanogpt"
) -> list[dict[str, Any]]:
    """Seconds of training (evaluation left out) to `TARGET` on the whole validation split, both in
    one process.
    """
    return [_race(progress, ours, reference), _step(progress, reference)]


def _race(progress: Progress, ours: str, reference: str) -> dict[str, Any]:
    sides = {name: _training(Recipe.read(name)) for name in (ours, reference)}
    seconds = dict.fromkeys(sides, 0.0)
    losses = dict.fromkeys(sides, float("inf"))
    steps = dict.fromkeys(sides, 0)
    while running := [name for name in sides if losses[name] > TARGET]:
        for name in running:  # in turn, so that a noisy machine disturbs both
            if (found := next(sides[name], None)) is None:
                sides.pop(name)
                continue
            steps[name], seconds[name], losses[name] = found
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
    seconds = 0.0
    for step in range(recipe.train.steps):
        began = time.perf_counter()
        loss, _ = stepper.step(batch(step), step)
        float(loss)
        seconds += time.perf_counter() - began
        if (step + 1) % recipe.train.eval_every == 0 or step + 1 == recipe.train.steps:
            yield step + 1, seconds, mean_loss(stepper.accelerator, stepper.best_model, held)


def _step(progress: Progress, name: str, n: int = 60) -> dict[str, Any]:
    """A step of ours against the plainest PyTorch loop with the same model, batch and AdamW, in
    turn.
    """
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
        rows = tuple(x.to(stepper.accelerator.device) for x in batch(step))
        for side in times:
            began = time.perf_counter()
            loss = float(stepper.step(rows, step)[0]) if side == "ours" else bare(*rows)
            times[side].append(time.perf_counter() - began)
            first.setdefault(side, loss)
    seconds = {side: statistics.median(found[5:]) for side, found in times.items()}
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
