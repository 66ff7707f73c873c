"""Trains a small encoder to name classes; what the bundled ones are made with.

Plain cross-entropy, AdamW and a cosine schedule: a few thousand small pictures or spectrograms need
no more, and no run in the store.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from workbench.modes import own_modes
from workbench.progress import Progress

Change = Callable[[Tensor, torch.Generator], Tensor]
"""Makes another input of the same class from each input of a batch, such as a shifted picture."""


@dataclass(frozen=True)
class Settings:
    """How long and how fast to train.

    - `lr`: highest learning rate, after `warmup` of all steps
    - `smoothing`: share of the target that is spread over all classes
    """

    epochs: int
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    smoothing: float = 0.05
    seed: int = 0


@own_modes
def fit(
    model: PreTrainedModel,
    given: str,
    inputs: Float[Tensor, "n *input"],
    labels: Int[Tensor, " n"],
    settings: Settings,
    *,
    change: Change | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train a model in place, and return the mean loss of every epoch in nats.

    Args:
        model: A model with a classifier.
        given: Name of its argument.
        inputs: All inputs.
        labels: Their classes.
        settings: How long and how fast.
        change: Changes each batch at random; None leaves it.
        progress: Called with the share that is done, and a few words.
    """
    chance = torch.Generator().manual_seed(settings.seed)
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    a_epoch = math.ceil(len(inputs) / settings.batch_size)
    total = a_epoch * settings.epochs
    losses = []
    for epoch in range(settings.epochs):
        lost = 0.0
        order = torch.randperm(len(inputs), generator=chance).split(settings.batch_size)
        for i, rows in enumerate(order):
            optimizer.param_groups[0]["lr"] = _rate(settings, (epoch * a_epoch + i) / total)
            batch = inputs[rows] if change is None else change(inputs[rows], chance)
            logits = model(**{given: batch}).logits
            loss = F.cross_entropy(logits, labels[rows], label_smoothing=settings.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lost += float(loss.detach()) * len(rows)
        losses.append(lost / len(inputs))
        if progress is not None:
            progress((epoch + 1) / settings.epochs, f"epoch {epoch + 1}, loss {losses[-1]:.4f}")
    model.eval().requires_grad_(False)
    return losses


def _rate(settings: Settings, done: float) -> float:
    """The learning rate after a share of all steps: up in a line, down in half a cosine."""
    if done < settings.warmup:
        return settings.lr * (done / settings.warmup + 1e-3)
    left = (done - settings.warmup) / (1 - settings.warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * left))


def shifted(most: int, fill: float) -> Change:
    """A change that moves each picture of a batch by up to `most` pixels in both directions.

    Args:
        most: Pixels.
        fill: What comes in at the edges.
    """

    def change(batch: Tensor, chance: torch.Generator) -> Tensor:
        rows, columns = batch.shape[-2:]
        wide = F.pad(batch, [most] * 4, value=fill)
        by = torch.randint(0, 2 * most + 1, (len(batch), 2), generator=chance).tolist()
        moved = [
            picture[..., down : down + rows, right : right + columns]
            for picture, (down, right) in zip(wide, by, strict=True)
        ]
        return torch.stack(moved)

    return change
