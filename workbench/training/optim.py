"""Muon for matrices in the blocks, AdamW for the rest, and the learning-rate schedule."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.training.muon import Muon
from workbench.training.recipe import Optimisation


def optimizers(model: nn.Module, settings: Optimisation) -> list[torch.optim.Optimizer]:
    """The optimisers for a model's trainable parameters.

    With `optimizer = "muon"`, Muon takes the 2-D weights of blocks (so all LoRA factors) and AdamW
    the rest; with "adamw", AdamW takes everything. Norm gains and biases are not decayed.

    Args:
        model: Parameters that do not require a gradient are left out.
        settings: Names the optimizer, its rates and its weight decay.

    Raises:
        WorkbenchError: For an unknown optimizer.
    """
    if settings.optimizer not in ("muon", "adamw"):
        raise WorkbenchError(f"The optimizer is {settings.optimizer!r}; it must be muon or adamw.")
    matrices: list[nn.Parameter] = []
    embeddings: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim != 2:
            vectors.append(parameter)
        elif ".layers." in f".{name}":
            matrices.append(parameter)
        else:
            embeddings.append(parameter)
    decay = 0.0  # embeddings are decayed only when AdamW trains the matrices too
    share = settings.embedding_lr  # AdamW's rate over Muon's
    if settings.optimizer == "adamw":
        embeddings = embeddings + matrices
        matrices = []
        decay = settings.weight_decay
        share = 1.0
    groups = [
        {"params": embeddings, "weight_decay": decay, "share": share},
        {"params": vectors, "weight_decay": 0.0, "share": share},
    ]
    groups = [group for group in groups if group["params"]]
    optims: list[torch.optim.Optimizer] = []
    if groups:
        optims.append(
            torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2), fused=True)
        )
    if matrices:
        optims.append(
            Muon(
                matrices,
                lr=settings.lr,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
            )
        )
    return optims


def set_rate(opts: Iterable[Any], step: int, settings: Optimisation) -> None:
    """Give every parameter the learning rate of a step.

    Muon's update is scaled to match AdamW's (see `muon`), so that one rate can serve both.
    """
    rate = learning_rate(step, settings)
    for opt in opts:
        for group in opt.param_groups:
            group["lr"] = rate * group.get("share", 1.0)


def learning_rate(step: int, settings: Optimisation) -> float:
    """The learning rate of a step: linear warm-up, then down to `min_lr` by the schedule.

    Args:
        step: Counted from 0.
        settings: `trapezoid` stays flat and falls linearly over the last share `decay` of the
            steps; `cosine` falls over all steps after the warm-up.

    Raises:
        WorkbenchError: For an unknown schedule.
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
