"""What the blocks of a small GPT take beyond their products, measured on a small model.

A chain of single operations is no measure of it: numbers of a whole batch do not fit in a
processor's caches, bfloat16 is converted to and fro, and Python finds its way through modules.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from workbench.budget.work import Size, Work, size_of

SMALL: dict[str, Any] = {"n_layers": 2, "n_heads": 2, "d_model": 64, "n_ctx": 8, "d_vocab": 64}
"""A model, and a row of tokens, so small that only the number of operations counts."""
LARGE: dict[str, Any] = {"n_layers": 1, "n_heads": 8, "d_model": 256, "n_ctx": 128, "d_vocab": 2048}
"""One that is trained on so many tokens that its numbers go through memory, not only caches."""
ROWS = 32
"""Rows of a batch of the large model: 4,096 tokens."""
LEAST = 0.1
"""Share of a large model's time that is called moving at least, should products seem to fill it."""


class Blocks(NamedTuple):
    """What was measured.

    - `call_us`: one operation of a forward pass in float32, in microseconds, however small
    - `call_learned_us`: the same forward and backward, in the precision that training takes
    - `gbs`: bytes besides products, in 10^9 a second, forward and backward in that precision
    """

    call_us: float
    call_learned_us: float
    gbs: float


def measured(
    typical: Callable[[Callable[[], Any], bool], float], gflops: Callable[[int, str], float]
) -> Blocks:
    """What the blocks of two small models take on this machine's processor.

    Args:
        typical: Seconds of a typical run of some work; True if one thread does it.
        gflops: Rate of products at a width, in a precision.
    """
    import torch

    precision = "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    model, ids, size = _made(SMALL, 1)
    calls = size.scoring(ids.numel(), ids.shape[1], 1).calls
    call_us = typical(lambda: _scored(model, ids), True) / calls * 1e6
    learned_us = typical(lambda: _learned(model, ids, precision), True) / calls * 1e6
    model, ids, size = _made(LARGE, ROWS)
    seconds = typical(lambda: _learned(model, ids, precision), False)
    work = size.learning(*ids.shape)
    return Blocks(
        call_us, learned_us, moving(seconds, work, gflops(size.d_model, precision), learned_us)
    )


def moving(seconds: float, work: Work, gflops: float, call_learned_us: float) -> float:
    """GB/s at which a work's bytes were moved, if the rest of its time went by arithmetic.

    Args:
        seconds: That it took.
        work: Of learning.
        gflops: Rate of its products.
        call_learned_us: Of one of its operations, in microseconds.
    """
    products = work.flops / gflops / 1e9
    rest = seconds - products - work.learned * call_learned_us / 1e6
    return work.moved / max(rest, LEAST * seconds) / 1e9


def _made(shape: dict[str, Any], rows: int) -> tuple[Any, Any, Size]:
    """A model as it is trained on a processor, ids `[row, pos]` for it, and its size."""
    import torch

    from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
    from workbench.training.attending import keep_short_patterns

    model: Any = WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**shape))
    model.model.keep_rotations()
    keep_short_patterns(model)
    ids = torch.arange(rows * shape["n_ctx"]).reshape(rows, -1) % shape["d_vocab"]
    return model, ids, size_of(model)


def _scored(model: Any, ids: Any) -> None:
    """A forward pass as evaluation has it."""
    import torch

    with torch.no_grad():
        model(ids)


def _learned(model: Any, ids: Any, precision: str) -> None:
    """A forward and a backward pass as training has them."""
    import torch

    from workbench.training.compiling import summed_loss

    lower = contextlib.nullcontext()
    if precision == "bf16":
        lower = torch.autocast("cpu", dtype=torch.bfloat16)
    with lower:
        loss = summed_loss(model(ids).logits, ids)
    loss.backward()
    model.zero_grad()
