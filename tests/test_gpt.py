"""The small GPT against independent references: transformers' GPT-2 and Llama, and the encodings'
formulas.
"""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import blocks, tiny_gpt, written_by
from workbench.errors import WorkbenchError
from workbench.subjects import positions
from workbench.subjects.convert import to_gpt2, to_llama

pytestmark = pytest.mark.quick

IDS = torch.randint(0, 100, (2, 20), generator=torch.Generator().manual_seed(1))
ENCODINGS = positions.ENCODINGS


@pytest.mark.parametrize("bias", [True, False])
def test_learned_layernorm_gelu_is_gpt2(bias):
    ours = tiny_gpt(positions="learned", norm="layernorm", mlp="gelu", bias=bias).double()
    for p in ours.parameters():
        torch.nn.init.normal_(p, 0, 0.2)
    torch.testing.assert_close(to_gpt2(ours)(IDS).logits, ours(IDS).logits, atol=1e-12, rtol=0)


def test_rotary_rmsnorm_swiglu_is_llama_with_grouped_heads():
    ours = tiny_gpt(n_kv_heads=2, d_head=12, tie_word_embeddings=False).double()
    # Llama keeps its norms and rotary tables in float32, so agreement ends at float32's rounding.
    torch.testing.assert_close(to_llama(ours)(IDS).logits, ours(IDS).logits, atol=1e-5, rtol=0)


def test_conversion_names_what_stands_in_the_way():
    with pytest.raises(WorkbenchError, match=r"positions = learned.*norm = layernorm"):
        to_gpt2(tiny_gpt(positions="rotary"))
    with pytest.raises(WorkbenchError, match="qk_norm = false"):
        to_llama(tiny_gpt(qk_norm=True))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_fast_and_explicit_attention_agree(encoding):
    model = tiny_gpt(positions=encoding, n_kv_heads=2, qk_norm=True)
    fast = model(IDS).logits
    model.set_attn_implementation("eager")
    explicit = model(IDS, output_attentions=True)
    torch.testing.assert_close(explicit.logits, fast, atol=1e-5, rtol=0)
    pattern = torch.stack(explicit.attentions)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 2, 4, 20))
    assert pattern.triu(1).abs().max() == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_cache_changes_nothing(encoding):
    model = tiny_gpt(positions=encoding).double()
    whole = model(IDS).logits
    past = None
    parts = []
    for part in IDS.split(7, dim=1):
        out = model(part, cache=past, use_cache=True)
        past = out.cache
        parts = [*parts, out.logits]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_left_padding_does_not_change_what_is_generated(encoding):
    model = tiny_gpt(positions=encoding)
    plain = written_by(model, IDS[:1], max_new_tokens=8, do_sample=False)
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), IDS[:1]], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :5] = 0
    again = written_by(model, padded, attention_mask=mask, max_new_tokens=8, do_sample=False)
    assert again[0, 5:].tolist() == plain[0].tolist()


def test_sinusoidal_is_the_papers_formula():
    table = positions.sinusoidal(torch.arange(50), 6)
    for p, i in ((0, 0), (7, 1), (49, 2)):
        angle = p / 10000 ** (2 * i / 6)
        assert table[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_alibi_slopes_are_the_papers():
    assert positions.alibi_slopes(8).tolist() == [2**-i for i in range(1, 9)]
    twelve = positions.alibi_slopes(12).tolist()
    assert twelve[:8] == [2**-i for i in range(1, 9)]
    assert twelve[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_alibi_adds_slope_times_distance_to_the_scores():
    model = tiny_gpt(positions="alibi", n_layers=1)
    for part in (blocks(model)[0].attn.q, blocks(model)[0].attn.k):
        torch.nn.init.zeros_(part.weight)  # all scores are zero but for the bias
    model.set_attn_implementation("eager")
    pattern = model(IDS, output_attentions=True).attentions[0][0, :, -1]
    distance = torch.arange(19, -1, -1.0)
    expected = (-positions.alibi_slopes(4)[:, None] * distance).softmax(-1)
    torch.testing.assert_close(pattern, expected)


def test_rotary_scores_hang_on_distance_alone():
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.double)

    def score(query: int, key: int) -> torch.Tensor:
        turned = [
            positions.rotate(
                x, *(t[None].double() for t in positions.rotary_cos_sin(torch.tensor([p]), 16))
            )
            for x, p in ((q, query), (k, key))
        ]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(9, 4), score(109, 104), atol=1e-5, rtol=0)
    assert abs(score(9, 4) - score(9, 5)) > 1e-4


def test_a_saved_model_loads_through_auto_classes(tmp_path):
    model = tiny_gpt(positions="alibi", mlp="relu2")
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_zero_init_makes_every_block_the_identity_at_the_start():
    model = tiny_gpt(zero_init=True, positions="rotary")
    hidden = model(IDS, output_hidden_states=True).hidden_states
    assert torch.equal(hidden[0], blocks(model)[0](hidden[0], position_embeddings=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": "polar"}, "positions is 'polar'"),
        ({"n_kv_heads": 3}, "multiple"),
        ({"d_head": 7}, "even"),
    ],
)
def test_shapes_that_cannot_be_built_say_why(change, message):
    with pytest.raises(WorkbenchError, match=message):
        tiny_gpt(**change)


def test_learned_positions_end_with_a_sentence():
    with pytest.raises(WorkbenchError, match="Learned positions end at 64"):
        tiny_gpt(positions="learned")(torch.zeros(1, 65, dtype=torch.long))


@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi"])
def test_continuous_batching_writes_what_generate_writes(positions):
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = tiny_gpt(positions=positions, n_kv_heads=2)
    prompts = [[5, 9, 31, 44, 7], [3, 4], [62, 18, 77, 23, 9, 1, 2, 3]]
    how = GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=-1, pad_token_id=0)
    small = ContinuousBatchingConfig(num_blocks=4, max_batch_tokens=64, use_cuda_graph=False)
    alone = [
        written_by(model, torch.tensor([p]), generation_config=how)[0, len(p) :].tolist()
        for p in prompts
    ]
    out = model.generate_batch(
        prompts, generation_config=how, continuous_batching_config=small, progress_bar=False
    )
    assert [out[key].generated_tokens for key in sorted(out)] == alone
    assert len({tuple(tokens) for tokens in alone}) > 1
