"""When the next token is computed in the short way, and the check that it may be."""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from workbench import memory
from workbench.generation.kv import KV
from workbench.generation.short_way import ShortWay
from workbench.generation.short_ways import short_way

AFTER = 16
"""Steps after which the copies of the weights are made."""
AGAIN = 512
"""Steps after which they are made again where they had to give way."""
LARGEST = 1 << 31
"""Bytes of weights up to which copies are made, unless the user of the model says otherwise."""
MOST_ROWS = 16
"""Texts at once; with more, what counts is no longer how fast the matrices are read."""
_SHORTCUTS: "WeakKeyDictionary[Any, Shortcut]" = WeakKeyDictionary()


class Shortcut:
    """The short way of one model, for as long as its weights stay and nobody hooks its modules.

    A holder of `workbench.memory`, whose `drop` any thread may call.

    Args:
        model: A causal model.
    """

    name = "weights in the order of writing"
    weights = False

    def __init__(self, model: nn.Module) -> None:
        self._state: list[tuple[int, float]] = []
        self.largest = LARGEST
        self._steps = 0
        self._short: ShortWay | None = None
        # A model with hooks, such as one with heads ablated, has to run itself.
        self._hooks: list[Any] = [
            hooks
            for module in model.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks)
        ]
        self._used = time.monotonic()
        memory.register(self)

    @property
    def n_bytes(self) -> int:
        """The memory of its copies of the weights."""
        short = self._short
        return 0 if short is None else short.n_bytes

    def entries(self) -> list[memory.Entry]:
        """The copies of the weights, for the process's account of memory."""
        short = self._short
        return [] if short is None else [memory.Entry("", self._used, {id(short): short.n_bytes})]

    def drop(self, key: Hashable) -> None:
        """Let go of the copies; they are made again only after `AGAIN` steps more."""
        self._short = None
        self._steps = AFTER - AGAIN

    def fits(self, model: nn.Module) -> bool:
        """Whether the model's weights are those that its copies were made from."""
        return self._short is None or self._state == _state_of(model)

    def logits(
        self, tokens: Sequence[int], kv: KV, plain: Callable[[], Tensor], model: Any
    ) -> Tensor:
        """Logits `[row, 1, d_vocab]` after one more token of each text, which goes into the cache.

        Args:
            tokens: The texts' last ones.
            kv: The cache, with room for a column.
            plain: Computes the same by the model.
            model: The model.
        """
        if len(tokens) > MOST_ROWS or any(self._hooks):
            return plain()
        self._steps += 1
        self._used = time.monotonic()
        short = self._short
        if self._steps == AFTER:
            self._state = _state_of(model)
            return self._checked(tokens, kv, plain, short_way(model, self.largest))
        if short is None:
            return plain()
        logits = short(tokens, kv)
        kv.end += 1
        return logits[:, None]

    def _checked(
        self,
        tokens: Sequence[int],
        kv: KV,
        plain: Callable[[], Tensor],
        candidate: ShortWay | None,
    ) -> Tensor:
        """The model's own logits; the candidate is taken if its logits are the same."""
        before = kv.end
        logits = plain()
        if candidate is None:
            return logits
        after = kv.end
        kv.end = before
        difference = (candidate(tokens, kv) - logits[:, 0]).abs().max()
        kv.end = after
        close = 1e-4 if logits.dtype == torch.float32 else 1e-6
        if difference <= close * logits.abs().max():
            self._short = candidate
            memory.note_growth()
        return logits


def shortcut(model: Any) -> Shortcut:
    """The model's shortcut, made anew where its weights have changed."""
    known = _SHORTCUTS.get(model)
    if known is None or not known.fits(model):
        known = Shortcut(model)
        _SHORTCUTS[model] = known
    return known


@torch.no_grad()
def _state_of(model: nn.Module) -> list[tuple[int, float]]:
    """What changes when weights do: where each is, and its sum.

    Torch's own count of writes to a tensor leaves out those of its fused optimizers.
    """
    return [(weight.data_ptr(), float(weight.sum())) for weight in model.parameters()]
