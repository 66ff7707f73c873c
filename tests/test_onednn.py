"""Reordered weights are those that the layer has now, wherever they lie in memory."""

import pytest
import torch

from workbench.benchmarks.engine.onednn import Layout

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@torch.no_grad()
def test_other_weights_at_the_address_of_freed_ones_are_reordered_anew():
    layer = torch.nn.Linear(64, 64, bias=False)
    own = layer.weight.data
    inputs = torch.randn(3, 64)
    layout = Layout(torch.nn.Sequential(layer))
    for seed in range(20):
        # As a hybrid of two models does: pointed at, run, and freed before the next one is made.
        layer.weight.data = torch.randn(64, 64, generator=torch.Generator().manual_seed(seed))
        expected = inputs @ layer.weight.T
        with layout:
            torch.testing.assert_close(layer(inputs), expected)
        layer.weight.data = own


@torch.no_grad()
def test_weights_changed_in_place_are_reordered_anew():
    layer = torch.nn.Linear(64, 64)
    inputs = torch.randn(3, 64)
    layout = Layout(torch.nn.Sequential(layer))
    for _ in range(3):
        layer.weight.mul_(2)
        expected = layer(inputs)
        with layout:
            torch.testing.assert_close(layer(inputs), expected)
