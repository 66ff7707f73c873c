"""Value-weighted attention, rollout, flow and gradients, on patterns worked by hand and against the
model itself.
"""

import sys

import numpy as np
import pytest
import torch

from tests.conftest import subject_of
from tests.families import FAMILIES, make
from workbench.errors import WorkbenchError
from workbench.interp.patterns.attention import Attention, attention
from workbench.interp.patterns.routes import flow, gradient_attention, rollout

pytestmark = pytest.mark.quick


def two_layers() -> Attention:
    """Position 2 reads position 1 in the upper layer; 1 reads 0 in the lower one."""
    pattern = np.tile(np.eye(3, dtype=np.float32), (2, 1, 1, 1))
    pattern[1, 0, 2] = [0, 1, 0]
    pattern[0, 0, 1] = [1, 0, 0]
    return Attention("made", "0", "a b c", ["a", "b", "c"], pattern)


def test_rollout_multiplies_what_passes_and_flow_is_the_widest_pipe():
    pattern = two_layers()
    shares = rollout(pattern, 2)
    assert shares[1].tolist() == [0, 0.5, 0.5]
    assert shares[0].tolist() == [0.25, 0.25, 0.5]
    # Into position 1 run 0.5 from above; half of it may go on to 0 and half stay, and each pipe
    # alone is 0.5 wide.
    np.testing.assert_allclose(flow(pattern, 2), [0.5, 0.5, 0.5], atol=1e-5)
    with pytest.raises(WorkbenchError, match="positions 0 to 2, not 3"):
        rollout(pattern, 3)


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "gemma2", "workbench-alibi"])
def test_value_weighted_attention_is_the_length_of_what_moves(family):
    """The first query sees itself alone, so with a single head left over its weight is the length
    of the output.
    """
    subject = subject_of(make(family), family)
    seen = attention(subject, "3 1 4")
    output = subject.bridge.W_O
    layer = 1
    head = 2
    _, cache = subject.bridge.run_with_cache(torch.tensor([[3, 1, 4]]))
    z = cache[f"blocks.{layer}.attn.o.hook_in"][0].reshape(3, 4, 8)
    written = torch.linalg.norm(z[0, head] @ output[layer, head])
    assert seen.value_weighted(layer, head)[0, 0] == pytest.approx(float(written), rel=1e-4)
    assert seen.value_weighted(layer, head)[0, 1] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_pass_through_the_pattern_of_every_family(family):
    subject = subject_of(make(family), family)
    result = gradient_attention(subject, "3 1 4 1 5", answer=7)
    assert result.target == "7" and result.relevance.shape == (5,) and result.relevance.min() >= 0
    assert (result.heads.sum(1) > 0).all()


def test_the_gradient_by_one_entry_is_what_a_small_change_of_it_does(tiny):
    """Of the last layer, whose pattern at the position moves the logit in a straight line but for
    the final norm.
    """
    tiny.model.double()
    ids = tiny.encode("3 1 4 1 5")
    step = 1e-6

    def logit(change: float) -> float:
        def nudge(pattern, hook):
            pattern = pattern.clone()
            pattern[0, 2, 4, 1] += change
            return pattern

        with torch.no_grad():
            return float(
                tiny.bridge.run_with_hooks(ids, fwd_hooks=[("blocks.1.attn.hook_pattern", nudge)])[
                    0, 4, 7
                ]
            )

    slope = (logit(step) - logit(-step)) / (2 * step)
    pattern = attention(tiny, "3 1 4 1 5").head(1, 2)
    base = gradient_attention(tiny, "3 1 4 1 5", answer=7)
    assert np.isfinite(base.logit) and base.logit == pytest.approx(logit(0), rel=1e-6)
    assert max(0.0, slope * pattern[4, 1]) <= base.heads[1, 2] + 1e-6


def test_a_prompt_of_one_token_and_one_too_long_for_its_gradients(tiny, monkeypatch):
    assert gradient_attention(tiny, "3").relevance.shape == (1,)
    monkeypatch.setattr("workbench.interp.patterns.routes.LARGEST_GRADIENT", 2 * 4 * 9)
    with pytest.raises(WorkbenchError, match="fit up to 3 tokens; the prompt has 4"):
        gradient_attention(tiny, "1 2 3 4")


def test_large_patterns_are_halved_and_larger_ones_in_a_file_and_read_the_same(tiny, monkeypatch):
    whole = attention(tiny, "3 1 4 1 5")
    for limit, filed in ((whole.pattern.size - 1, False), (10, True)):
        monkeypatch.setattr(sys.modules[attention.__module__], "FULL_PRECISION", limit)
        halved = attention(tiny, "3 1 4 1 5")
        assert halved.pattern.dtype == np.float16
        assert isinstance(halved.pattern, np.memmap) == filed
        np.testing.assert_allclose(halved.pattern, whole.pattern, atol=1e-3)
