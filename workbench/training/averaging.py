"""An exponential moving average of a model's weights: what is evaluated and saved of a run."""

from copy import deepcopy
from typing import Any

import torch
from transformers import PreTrainedModel


class Averaged:
    """A copy of a model whose weights follow those in training; buffers are the model's own.

    The same numbers as torch's `AveragedModel` with `get_ema_multi_avg_fn`, which copies a counter
    to the device at every update, so that a GPU is waited for.

    - `module`: the copy
    - `n_averaged`: updates so far; the first takes the weights as they are

    Args:
        model: Whose weights are followed, on its device.
        decay: Share of the average that an update keeps.
    """

    def __init__(self, model: PreTrainedModel, decay: float) -> None:
        self.module = deepcopy(model)
        self.n_averaged = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """Move the average a step towards the model's weights."""
        own = list(self.module.parameters())
        now = list(model.parameters())
        each: Any = torch  # whose functions of many tensors have no types
        if self.n_averaged:
            each._foreach_lerp_(own, now, 1 - self._decay)
        else:
            each._foreach_copy_(own, now)
        for ours, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)
        self.n_averaged += 1
