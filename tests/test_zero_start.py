"""A model whose MLPs start at zero is read as what it is: one after the other, not side by side."""

import pytest
import torch

from tests.conftest import blocks, subject_of, tiny_gpt
from workbench.subjects.stream import stream_of


@pytest.mark.parametrize("zero", [False, True])
def test_an_mlp_that_writes_nothing_is_not_taken_for_a_parallel_one(zero):
    subject = subject_of(tiny_gpt())
    if zero:
        for layer in blocks(subject.model):
            torch.nn.init.zeros_(layer.mlp.fc_out.weight)
    mapping = subject.bridge.adapter.component_mapping
    assert not stream_of(subject.model, mapping).parallel
