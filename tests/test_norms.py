"""Norms are asked what they do: held against their own outputs, and against compositions worked out
by hand.
"""

import numpy as np
import pytest
import torch
import transformers as t
from torch import nn

from tests.conftest import subject_of
from tests.families import GQA
from workbench.errors import WorkbenchError
from workbench.interp import composition
from workbench.interp.engine.reader import Reader
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sources import noised_input
from workbench.interp.norms import Norm, norm_of
from workbench.interp.patching.direct import direct
from workbench.interp.prompts.pairs import pair
from workbench.interp.weights import embedding, layer_weights

pytestmark = pytest.mark.quick

CLEAN = "5 9 31 44 7 62 18 77 23"
CORRUPTED = "5 9 31 12 7 80 18 77 23"


def drawn(norm):
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 1, 0.3)
    return norm.double()


NORMS = {
    "LayerNorm": (lambda d: nn.LayerNorm(d), True),
    "RMSNorm": (lambda d: nn.RMSNorm(d, eps=1e-6), False),
    "OLMo's": (lambda d: t.models.olmo.modeling_olmo.OlmoLayerNorm(d), True),
    "Cohere's": (lambda d: t.models.cohere.modeling_cohere.CohereLayerNorm(d), True),
    "Gemma's": (lambda d: t.models.gemma2.modeling_gemma2.Gemma2RMSNorm(d), False),
    "Llama's": (lambda d: t.models.llama.modeling_llama.LlamaRMSNorm(d), False),
}


@pytest.mark.parametrize("width", [32, 33])
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_rebuilt_from_what_it_was_found_to_do(name, width):
    kind, centres = NORMS[name]
    norm = drawn(kind(width))
    rebuilt = norm_of(norm, width, torch.zeros(1, dtype=torch.float64))
    assert rebuilt.centres is centres and rebuilt.scales
    x = (
        5 * torch.randn(4, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        + 2
    )
    inside = x - x.mean(-1, keepdim=True) if centres else x
    ours = inside / inside.square().mean(-1, keepdim=True).sqrt() * rebuilt.gain + rebuilt.offset
    with torch.no_grad():
        torch.testing.assert_close(ours, norm(x), atol=1e-5, rtol=1e-5)  # but for the epsilon
        held = rebuilt.direction(x) * rebuilt.held(x, norm(x)) + rebuilt.offset
        torch.testing.assert_close(held, norm(x), atol=1e-5, rtol=1e-5)


def test_no_norm_at_all_and_one_of_another_kind_are_told_apart():
    like = torch.zeros(1)
    assert not norm_of(nn.Identity(), 32, like).scales
    with pytest.raises(WorkbenchError, match="Tanh is a norm of a kind that is not known"):
        norm_of(nn.Tanh(), 32, like)


def wide(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, 0.3)
    return model.double().eval()


@pytest.mark.parametrize("name", ["Olmo", "Cohere"])
def test_heads_compose_behind_norms_that_centre_as_worked_out_by_hand(name):
    kind = getattr(t, f"{name}ForCausalLM")
    config = getattr(t, f"{name}Config")
    subject = subject_of(wide(kind(config(**GQA))), name)
    layers = list(subject.model.get_submodule("model.layers").children())
    centre = np.eye(32) - 1 / 32

    def of(layer, part, head, group=1):
        weight = getattr(layers[layer].self_attn, f"{part}_proj").weight.numpy()
        norm = getattr(layers[layer].input_layernorm, "weight", None)
        gain = np.ones(32) if norm is None else norm.numpy()
        rows = slice(head // group * 8, head // group * 8 + 8)
        return centre @ np.diag(gain) @ weight[rows].T

    for i, weights in enumerate(layer_weights(subject)):
        for head in range(4):
            np.testing.assert_allclose(weights.q[head], of(i, "q", head), atol=1e-6)
            np.testing.assert_allclose(weights.v[head], of(i, "v", head, 2), atol=1e-6)
    assert abs(embedding(subject).mean(-1)).max() < 1e-12
    scores = composition(subject).scores["Q"]
    into_stream = subject.model.get_parameter("model.layers.0.self_attn.o_proj.weight")
    out = of(0, "v", 0, 2) @ into_stream.numpy()[:, :8].T
    reads = of(1, "q", 1) @ of(1, "k", 1, 2).T
    by_hand = np.linalg.norm(out @ reads) / np.linalg.norm(out) / np.linalg.norm(reads)
    assert np.nanmax(scores) > 0.05
    assert np.isclose(scores, by_hand, atol=1e-5).any()


def test_a_norm_taken_for_another_kind_leaves_the_direct_sum_off(monkeypatch):
    subject = subject_of(wide(t.OlmoForCausalLM(t.OlmoConfig(**GQA))), "olmo")
    assert direct(subject, CLEAN, answer="7", wrong="8", strict=True).checks["direct_sum"] < 1e-5
    own = Reader.final_norm.fget
    assert own is not None

    def without_centring(reader: Reader) -> Norm:
        norm = own(reader)
        return Norm(False, True, norm.gain, norm.offset)

    wrong = property(without_centring)
    monkeypatch.setattr(Reader, "final_norm", wrong)
    assert direct(subject, CLEAN, answer="7", wrong="8").checks["direct_sum"] > 1e-2
    with pytest.raises(
        WorkbenchError, match="direct contributions add up to the logit difference: off by"
    ):
        direct(subject, CLEAN, answer="7", wrong="8", strict=True)


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Gemma3"])
def test_noise_is_in_standard_deviations_of_what_the_embedding_gives(name):
    config = getattr(t, "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config")
    more = {} if name == "Llama" else {"head_dim": 8}
    subject = subject_of(wide(getattr(t, f"{name}ForCausalLM")(config(**GQA, **more))), name)
    clean = " ".join(["5"] * 40)
    question = pair(subject, clean + " 7", " ".join(["9"] * 40) + " 7", "7", "8")
    _, both = noised_input(subject, question, Settings(replacement="noise", noise=3.0))
    spread = subject.model.get_input_embeddings()(torch.arange(100)).std()
    moved = (both[1] - both[0])[:40]
    assert float(moved.std() / spread) == pytest.approx(3, rel=0.1)  # of 1,280 numbers
