"""Tiny models of the families that transformers has: the same each time, small, and loaded like any
folder.
"""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.subjects import zoo

TELLING = (
    "gpt2",
    "opt",
    "falcon",
    "bloom",
    "gptj",
    "olmo2",
    "mixtral",
    "gpt_oss",
    "deepseek_v3",
    "qwen3_next",
)


@pytest.mark.parametrize("family", TELLING)
def test_a_tiny_model_is_small_and_the_same_each_time(family):
    first = zoo.build(family)
    second = zoo.build(family)
    ids = torch.arange(1, 11)[None]
    with torch.no_grad():
        assert torch.equal(first(ids).logits, second(ids).logits)
    assert sum(p.numel() for p in first.parameters()) < zoo.MOST_PARAMETERS


def test_a_tiny_model_is_written_and_loaded_with_its_weights(tmp_path):
    subject = zoo.subject("llama", tmp_path)
    ids = subject.encode(" Mary and John")
    with torch.no_grad():
        assert torch.equal(subject.model(ids).logits, zoo.build("llama")(ids).logits)


def test_a_family_that_cannot_be_made_small_is_named_with_its_size():
    with pytest.raises(WorkbenchError, match="tiny fuyu still has"):
        zoo.build("fuyu")
