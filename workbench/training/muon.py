"""Muon: momentum with orthogonalised updates (Jordan 2024), batched over matrices of equal shape.

`torch.optim.Muon` takes one matrix at a time and always multiplies in bfloat16. A CPU without bf16
units does that over ten times slower than float32, and a small model needs hundreds of tiny
products per step.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.training.sharding import like, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration that drives all singular values towards 1 (Jordan 2024)."""


def orthogonal(
    matrices: Float[Tensor, "n row column"], steps: int = 5
) -> Float[Tensor, "n row column"]:
    """The nearest orthogonal matrices, roughly: same singular vectors, singular values 0.7 to 1.2.

    Args:
        matrices: Of any scale.
        steps: Newton-Schulz iterations; five suffice, as an update need not be exactly orthogonal.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # the Gram matrix is that of the shorter side
    # The iteration converges from a spectral norm up to 1, which the Frobenius norm bounds.
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).to(_dtype(x.device))
    for _ in range(steps):
        # x <- a x + (b G + c G G) x with G = x x^T
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def _dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else float32."""
    fast = (
        torch.cuda.is_bf16_supported()
        if device.type == "cuda"
        else torch.cpu._is_avx512_bf16_supported()
    )
    return torch.bfloat16 if fast else torch.float32


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum, decoupled weight decay, and AdamW's step size.

    The update is scaled by 0.2 sqrt(max(rows, columns)), which gives it the root mean square of
    AdamW's, so that one learning rate serves both.

    Args:
        params: 2-D parameters.
        lr: The learning rate.
        momentum: Decay of the running mean of gradients.
        weight_decay: Times `lr`, the share of the weights removed at each step.

    Reference:
        Jordan 2024, "Muon"; Liu et al. 2025, "Muon is Scalable for LLM Training".
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient; `closure` is ignored."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for shape, parameters in shapes.items():
                ahead = self._ahead(parameters, group["momentum"])
                size = group["lr"] * 0.2 * max(shape) ** 0.5
                updates = orthogonal(torch.stack(ahead))  # [matrix, row, column]
                each: Any = torch  # whose functions of many tensors have no types
                keep = 1 - group["lr"] * group["weight_decay"]
                # One kernel for all matrices of a shape, not one for each.
                each._foreach_mul_(parameters, keep)
                each._foreach_add_(
                    parameters,
                    [like(update, p) for p, update in zip(parameters, updates, strict=True)],
                    alpha=-size,
                )

    def _ahead(self, parameters: list[nn.Parameter], momentum: float) -> list[Tensor]:
        """The gradients blended with their updated running means (Nesterov), whole."""
        gradients = [cast(Tensor, p.grad) for p in parameters]
        for p in parameters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        moments = [self.state[p]["momentum"] for p in parameters]
        each: Any = torch
        each._foreach_lerp_(moments, gradients, 1 - momentum)
        return [whole(x) for x in each._foreach_lerp(gradients, moments, momentum)]
