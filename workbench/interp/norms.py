"""What a norm computes, found by trying it on vectors: centring, size, gain and offset."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.errors import WorkbenchError

LARGE = 1e3
"""Root mean square of the vectors that a norm is tried on: no epsilon matters beside it."""
OFF = 1e-3
"""How far, as a share, a norm may be from the formula."""


@dataclass(frozen=True)
class Norm:
    """A norm as `gain * centred / size + offset`.

    `centred` is `x - mean(x)` if `centres`, else `x`; `size` is the root mean square of that.
    `scales` is False if nothing is divided by (no norm at all).
    """

    centres: bool
    scales: bool
    gain: Float[Tensor, " d_model"]
    offset: Float[Tensor, " d_model"]

    def direction(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The part of the norm that is linear: `gain * (x - mean(x))`, undivided."""
        x = x - x.mean(-1, keepdim=True) if self.centres else x
        return x * self.gain

    def back(self, column: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The direction before the norm that reads as `column` after it, undivided."""
        column = column * self.gain
        return column - column.mean(-1, keepdim=True) if self.centres else column

    def held(self, x: Float[Tensor, "*batch d_model"], normed: Tensor) -> Float[Tensor, "*batch 1"]:
        """The factor on `direction(x)` (the inverse size) in a run in which `x` gave `normed`."""
        undivided = self.direction(x)
        product = (undivided * (normed - self.offset)).sum(-1, keepdim=True)
        return product / undivided.square().sum(-1, keepdim=True).clamp_min(1e-30)


@torch.no_grad()
def norm_of(norm: nn.Module | Callable[[Tensor], Tensor], d_model: int, like: Tensor) -> Norm:
    """What a norm computes.

    Args:
        norm: The module; a copy of it is tried in double precision.
        d_model: The width of the vectors that it takes.
        like: A tensor of the dtype and device that the result has.

    Raises:
        WorkbenchError: The module does not have the form of `Norm`.
    """
    exact = copy.deepcopy(norm).to("cpu", torch.float64) if isinstance(norm, nn.Module) else norm

    def of(x: Tensor) -> Tensor:
        return exact(x.reshape(1, 1, -1)).reshape(-1).double()

    even = d_model if d_model % 2 == 0 else d_model - 3
    signs = torch.tensor(
        [1.0, -1.0] * (even // 2) + [1.0, 1.0, -2.0] * (d_model % 2), dtype=torch.float64
    )
    signs = signs / signs.square().mean().sqrt()  # mean 0, root mean square 1
    offset = of(torch.zeros(d_model, dtype=torch.float64))
    once = of(LARGE * signs) - offset
    scales = _close(of(2 * LARGE * signs) - offset, once)
    gain = once / signs / (1 if scales else LARGE)
    shifted = of(LARGE * (signs + 1)) - offset
    centres = _close(shifted, once)
    # The formula must hold for any vector, not only for those that gave its parts.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(d_model, generator=generator, dtype=torch.float64) * LARGE + LARGE / 3
    expected = Norm(centres, scales, gain, offset).direction(x)
    inside = x - x.mean() if centres else x
    if scales:
        expected = expected / inside.square().mean().sqrt()
    if not _close(expected + offset, of(x)):
        raise WorkbenchError(f"{type(norm).__name__} is a norm of a kind that is not known here.")
    return Norm(centres, scales, gain.to(like), offset.to(like))


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= OFF * other.abs().max().clamp_min(1e-12))
