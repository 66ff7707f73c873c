"""Muon for the matrices inside the blocks, AdamW for the rest, and the learning rate of each step."""

import math

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.training.muon import Muon
from workbench.training.recipe import Optimisation


def optimizers(model: nn.Module, settings: Optimisation) -> list[torch.optim.Optimizer]:
    """The optimisers of a recipe. `muon`: Muon (Jordan 2024) on 2-D block weights; `adamw`: AdamW
    on everything.

    Norm gains and biases are not decayed. The factors of LoRA adapters are matrices of blocks, so
    `muon` trains them with Muon, and there is then nothing left for AdamW.
    """
    if settings.optimizer not in ("muon", "adamw"):
        raise WorkbenchError(f"The optimizer is {settings.optimizer!r}; it must be muon or adamw.")
    matrices = []
    embeddings = []
    vectors = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        inside = parameter.ndim == 2 and ".layers." in f".{name}"
        (matrices if inside else embeddings if parameter.ndim == 2 else vectors).append(parameter)
    if settings.optimizer == "adamw":
        embeddings = embeddings + matrices
        matrices = []
    groups = [
        {
            "params": embeddings,
            "weight_decay": settings.weight_decay if settings.optimizer == "adamw" else 0.0,
        },
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    found: list[torch.optim.Optimizer] = []
    if groups:
        found.append(
            torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2), fused=True)
        )
    if matrices:
        found.append(
            Muon(
                matrices,
                lr=settings.lr,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
            )
        )
    return found


def learning_rate(step: int, settings: Optimisation) -> float:
    """The rate of a step: up over `warmup` steps, then by the schedule down to `min_lr` at the last
    step.
    """
    if settings.schedule not in ("trapezoid", "cosine"):
        raise WorkbenchError(
            f"The schedule is {settings.schedule!r}; it must be trapezoid or cosine."
        )
    up = min(1.0, (step + 1) / max(1, settings.warmup))
    if settings.schedule == "cosine":
        done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
        down = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
    else:
        down = min(1.0, (settings.steps - step) / max(1, int(settings.decay * settings.steps)))
    return up * (settings.min_lr + (settings.lr - settings.min_lr) * down)
