"""A model's dense layers with their weights laid out beforehand as oneDNN's matrix product wants
them.

PyTorch's own float32 product reads the weights as they are stored and, on some processors, runs
well below their rate; laid out once, the same product in the same precision is faster on every
batch. It costs a second copy of them.
"""

from types import MethodType
from typing import Any

import torch

MOST_BYTES = 1 << 30
"""No model whose dense weights take more is laid out, as they would be held twice."""
ROWS = 256
"""Tokens a product that the layout is made for; it is right for any number."""


class Layout:
    """While entered, the dense layers of `model` compute with laid out weights; hooks on them are
    called as ever.
    """

    def __init__(self, model: Any) -> None:
        self._layers = [
            layer for layer in model.modules() if type(layer) is torch.nn.Linear and _plain(layer)
        ]
        self._laid: list[tuple[tuple[int, int], torch.Tensor]] = []

    @property
    def possible(self) -> bool:
        """Whether this machine has the product and the model has few enough weights for a second
        copy.
        """
        n_bytes = sum(layer.weight.numel() * layer.weight.element_size() for layer in self._layers)
        return bool(self._layers) and n_bytes <= MOST_BYTES and torch.backends.mkldnn.is_available()

    def __enter__(self) -> None:
        if [stamp for stamp, _ in self._laid] != [_stamp(layer) for layer in self._layers]:
            reorder = torch.ops.mkldnn._reorder_linear_weight
            self._laid = [
                (_stamp(layer), reorder(layer.weight.detach(), ROWS)) for layer in self._layers
            ]
        for layer, (_, weight) in zip(self._layers, self._laid, strict=True):
            layer.forward = MethodType(_product(weight), layer)

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            layer.__dict__.pop("forward", None)


def _product(weight: torch.Tensor) -> Any:
    def forward(self: torch.nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, self.bias, "none", [], "")

    return forward


def _plain(layer: torch.nn.Linear) -> bool:
    """Whether the layer is computed here as PyTorch does it: float32 on the CPU, its `forward` not
    replaced.
    """
    weight = layer.weight
    here = (
        weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.is_inference()
    )
    return here and "forward" not in layer.__dict__


def _stamp(layer: torch.nn.Linear) -> tuple[int, int]:
    """Changes when the layer's weights do."""
    return layer.weight.data_ptr(), layer.weight._version
