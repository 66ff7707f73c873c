"""What a norm does, found by asking it: whether it takes the mean off, and by what it multiplies
and adds.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.errors import WorkbenchError

LARGE = 1e3
"""Root mean square of the vectors that a norm is asked about: no epsilon matters beside it."""
OFF = 1e-3
"""How far, as a share, a norm may be from the formula."""


@dataclass(frozen=True)
class Norm:
    """`norm(x) = gain * (x - mean(x) if centres) / size + offset`, the size being the root mean
    square of the rest.

    `scales` is False where nothing is divided by (no norm at all).
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
        """What the norm multiplied `direction(x)` by in a run that gave `normed`: the inverse of
        the size.
        """
        told = self.direction(x)
        share = (told * (normed - self.offset)).sum(-1, keepdim=True)
        return share / told.square().sum(-1, keepdim=True).clamp_min(1e-30)


@torch.no_grad()
def norm_of(norm: nn.Module | Callable[[Tensor], Tensor], d_model: int, like: Tensor) -> Norm:
    """What a norm does, in the dtype and on the device of `like`.

    Args:
        norm: The module; it is asked in double precision, as a copy.
        d_model: The width of the vectors that it takes.
        like: A tensor of the dtype and device that the answer has.

    Raises:
        WorkbenchError: The module is none that centres or not, divides by a size or not, multiplies
            and adds.
    """
    asked = copy.deepcopy(norm).to("cpu", torch.float64) if isinstance(norm, nn.Module) else norm

    def of(x: Tensor) -> Tensor:
        return asked(x.reshape(1, 1, -1)).reshape(-1).double()

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
    found = Norm(centres, scales, gain, offset)
    x = (
        torch.randn(d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        * LARGE
        + LARGE / 3
    )
    told = found.direction(x)
    inside = x - x.mean() if centres else x
    told = told / inside.square().mean().sqrt() if scales else told
    if not _close(told + offset, of(x)):
        raise WorkbenchError(f"{type(norm).__name__} is a norm of a kind that is not known here.")
    return Norm(centres, scales, gain.to(like), offset.to(like))


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= OFF * other.abs().max().clamp_min(1e-12))
