"""Speed of training: time to a loss against nanoGPT's settings, and a step against a bare loop."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from workbench.speed.race import race
from workbench.training.loop import Stepper, Trainee
from workbench.training.pretrain import batches, setup
from workbench.training.recipe import Recipe

TARGET = 1.88
"""Nats per character on Tiny Shakespeare's last tenth: nanoGPT's CPU settings after 2,000 steps."""

Progress = Callable[[str], None]


def bench_training(
    progress: Progress,
    ours: str = "shakespeare-char-quick",
    reference: str = "shakespeare-char-nanogpt",
) -> list[dict[str, Any]]:
    """Three rows: seconds of training to the loss `TARGET`, and of a step against a bare loop.

    Args:
        progress: Called with what is being measured.
        ours: Name of our recipe.
        reference: Name of the recipe with nanoGPT's settings.
    """
    rows = race(progress, ours, reference, TARGET, compiles=False)
    return [*rows, _step(progress, reference)]


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
