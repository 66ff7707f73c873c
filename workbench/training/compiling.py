"""The loss of rows, compiled to fused kernels where that pays for the time it takes."""

import time
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.training import resources
from workbench.training.recipe import Optimisation
from workbench.training.rows import IGNORED
from workbench.training.two_texts import TwoTexts, logits_of

ALIKE = 4
"""Steps of one shape in a row after which the shape is taken to last."""
PAYS = 120.0
"""Seconds of steps to come from which on compiling is worth its half minute."""


def summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats, in float32, of logits `[batch, pos, d_vocab]`."""
    # [batch * pos, d_vocab] against [batch * pos]. In bfloat16 the sum of exponentials over the
    # vocabulary would keep three digits only.
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="sum", ignore_index=IGNORED
    )


def part_loss(model: Any, inputs: Tensor | TwoTexts, targets: Tensor) -> Tensor:
    """The summed loss of a model on rows: one graph, so that logits need not be stored twice."""
    return summed_loss(logits_of(model, inputs), targets)


class PartLoss:
    """`part_loss`, compiled once the rows keep one shape.

    Rows of other shapes, as fine-tuning has them, are never compiled: each would take half a
    minute.

    - `compiled`: how many shapes were compiled

    Args:
        device: The type of device that trains.
        settings: Of the recipe: `compile` true compiles, false does not, None leaves it to the
            steps that are left: compiling takes half a minute.
        alone: Whether one process trains; the models of several are compiled in place instead.
    """

    def __init__(self, device: str, settings: Optimisation, *, alone: bool) -> None:
        self.compiled = 0
        self._device = device
        self._steps = settings.steps
        self._wanted = settings.compile if alone else False
        if self._wanted is None and device != "cuda":
            self._wanted = False
        self._shape: Any = None
        self._since = 0
        self._fast: Any = None
        self._number = 0
        self._began = 0.0

    def begin(self, number: int) -> None:
        """Note that a step begins."""
        self._number = number

    def __call__(self, model: Any, inputs: Tensor | TwoTexts, targets: Tensor) -> Tensor:
        """The summed loss in nats of rows on the model's device."""
        if self._wanted is False:
            return part_loss(model, inputs, targets)
        if targets.shape != self._shape:
            # The parts of one step differ too where memory was short, or rows are no multiple.
            self._shape = targets.shape
            self._since = self._number
            self._fast = None
        elif self._fast is None and self._number >= self._since + self._patience():
            self._decide()
        if self._fast is None:
            return part_loss(model, inputs, targets)
        try:
            return self._fast(model, inputs, targets)
        except _failures() as error:
            if self._wanted:
                raise
            warnings.warn(f"Training goes on without torch.compile: {error}", stacklevel=2)
            self._wanted = False
            return part_loss(model, inputs, targets)

    def _patience(self) -> int:
        return 1 if self._wanted else ALIKE

    def _decide(self) -> None:
        """Compile, if the recipe says so or the steps to come are long enough."""
        if self._wanted is None:
            resources.synchronize(self._device)
            now = time.perf_counter()
            if not self._began:
                self._began = now
                self._since = self._number  # and look again after as many steps
                return
            pace = (now - self._began) / ALIKE
            if pace * (self._steps - self._number) < PAYS:
                self._wanted = False
                return
            self._wanted = True
        self._fast = torch.compile(part_loss, dynamic=False)
        self.compiled += 1


def _failures() -> tuple[type[BaseException], ...]:
    """What compiling raises where it is impossible, such as without a C++ compiler."""
    from torch._dynamo.exc import TorchDynamoException  # slow to import, and seldom needed

    return (TorchDynamoException, ImportError, FileNotFoundError)
