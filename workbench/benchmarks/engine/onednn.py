"""Runs a model's linear layers with weights reordered once for oneDNN's matrix product.

PyTorch's own float32 product reads the weights as they are stored and, on some processors, is well
below their peak rate. With reordered weights the same product in the same precision is faster on
every batch; it costs a second copy of the weights.
"""

from types import MethodType
from typing import Any

import torch

MOST_BYTES = 1 << 30
"""Models whose linear weights take more are left alone, as the weights would be in memory twice."""
ROWS = 256
"""Tokens a product that the order is optimised for; the result is right for any number."""


class Layout:
    """Context in which a model's linear layers use reordered weights; hooks still run."""

    def __init__(self, model: Any) -> None:
        self._layers = [
            layer for layer in model.modules() if type(layer) is torch.nn.Linear and _plain(layer)
        ]
        # By layer: the weights that were reordered, their version then, the reordered ones.
        self._laid: list[tuple[torch.Tensor, int, torch.Tensor]] = []

    @property
    def possible(self) -> bool:
        """Whether this machine has oneDNN and a second copy of the weights is small enough."""
        n_bytes = sum(layer.weight.numel() * layer.weight.element_size() for layer in self._layers)
        return bool(self._layers) and n_bytes <= MOST_BYTES and torch.backends.mkldnn.is_available()

    def __enter__(self) -> None:
        if not self._laid or not all(map(_unchanged, self._layers, self._laid)):
            reorder = torch.ops.mkldnn._reorder_linear_weight
            own = [layer.weight.detach() for layer in self._layers]
            self._laid = [(weight, weight._version, reorder(weight, ROWS)) for weight in own]
        for layer, (_, _, weight) in zip(self._layers, self._laid, strict=True):
            layer.forward = MethodType(_product(weight), layer)

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            layer.__dict__.pop("forward", None)


def _product(weight: torch.Tensor) -> Any:
    def forward(self: torch.nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, self.bias, "none", [], "")

    return forward


def _plain(layer: torch.nn.Linear) -> bool:
    """Whether the layer is an ordinary one: float32 on the CPU, its `forward` not replaced."""
    weight = layer.weight
    here = (
        weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.is_inference()
    )
    return here and "forward" not in layer.__dict__


def _unchanged(layer: torch.nn.Linear, laid: tuple[torch.Tensor, int, torch.Tensor]) -> bool:
    """Whether the layer's weights are those that were reordered."""
    # As these are held, no other weights can have come to lie at their address.
    weight, version, _ = laid
    return layer.weight.data_ptr() == weight.data_ptr() and layer.weight._version == version
