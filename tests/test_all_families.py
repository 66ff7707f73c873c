"""Every reading on tiny models of many families: the numbers that the model itself gives, or one
sentence.
"""

from typing import TypeVar

import numpy as np
import pytest
import torch
import transformers as t

import workbench as wb
from tests.conftest import subject_of, weight_of
from workbench.errors import WorkbenchError
from workbench.speed import families
from workbench.subjects import zoo

READING = (
    "attention",
    "head_scores",
    "head_catalogue",
    "attention_by_distance",
    "position_split",
    "position_encoding",
    "rotary_use",
    "loss_by_position",
    "position_probe",
    "anatomy",
    "composition",
    "strongest_pairs",
    "gradient_attention",
)
"""Functions that read without patching."""
QUICK = ("opt", "olmo2", "mixtral", "gptj")
PROMPT = "3 1 2 3 1 7 5 2 9 4"
LLAMA = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


Model = TypeVar("Model", bound=t.PreTrainedModel)


def widened(model: Model) -> Model:
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.15)
    return model.double().eval()


def check(name: str) -> None:
    measured = families.measure(name)
    assert not measured.loads.startswith("FAULT"), measured.loads
    faults = {what: why for what, why in measured.faults.items() if what in READING}
    assert not faults


@pytest.mark.parametrize("name", QUICK)
def test_reading_gives_numbers_or_a_sentence(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.families())
def test_reading_any_family_gives_numbers_or_a_sentence(name):
    check(name)


def falcon(**changes):
    config = t.FalconConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_hidden_size=64,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        **changes,
    )
    return t.FalconForCausalLM(config)


def mpt(**changes):
    config = t.MptConfig(
        vocab_size=100,
        d_model=32,
        n_heads=4,
        n_layers=2,
        expansion_ratio=2,
        max_seq_len=64,
        **changes,
    )
    return t.MptForCausalLM(config)


def bloom(n_head: int = 4):
    return t.BloomForCausalLM(
        t.BloomConfig(
            vocab_size=100, hidden_size=24 if n_head == 6 else 32, n_layer=2, n_head=n_head
        )
    )


@pytest.mark.parametrize(
    "make",
    [bloom, lambda: bloom(6), mpt],
    ids=["bloom", "bloom-6-heads", "mpt"],
)
def test_alibi_slopes_are_what_scores_fall_by_where_there_is_no_content(make):
    """With all matrices of the layers zero, a row of the pattern is the softmax of the bias."""
    model = widened(make())
    subject = subject_of(model)
    slopes = wb.position_encoding(subject).slopes
    assert slopes is not None
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "query_key_value" in name or "Wqkv" in name:
                parameter.zero_()
    model.set_attn_implementation("eager")
    ids = torch.arange(1, 9)[None]
    pattern = model(ids, output_attentions=True, use_cache=False).attentions[0][0].detach()
    measured = pattern[:, -1].log().diff(dim=-1).mean(-1)  # what one token nearer adds to the score
    np.testing.assert_allclose(slopes, measured, rtol=1e-3)


def test_falcons_alibi_slopes_are_those_of_its_own_output():
    """Its eager attention adds the bias twice, so the pattern is solved for from what attention
    wrote.
    """
    model = widened(falcon(alibi=True))
    slopes = wb.position_encoding(subject_of(model)).slopes
    assert slopes is not None
    fused = model.get_submodule("transformer.h.0.self_attention.query_key_value")
    out = model.get_submodule("transformer.h.0.self_attention.dense")
    seen = {}
    with torch.no_grad():  # four heads of queries and one of keys, each of eight
        weight_of(fused)[:40].zero_()
    fused.register_forward_hook(lambda m, i, o: seen.update(v=o[0, :, 40:]))
    out.register_forward_hook(lambda m, i, o: seen.update(z=i[0][0, -1].view(4, 8)))
    model(torch.arange(1, 9)[None], use_cache=False)
    # As many values as dimensions: [head, key].
    row = torch.linalg.solve(seen["v"].T, seen["z"].T).T
    np.testing.assert_allclose(slopes, row.log().diff(dim=-1).mean(-1).detach(), rtol=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt_neo", "gpt_bigcode", "biogpt", "openai-gpt"])
def test_a_learned_matrix_has_the_rows_that_the_model_reads(name, tmp_path):
    subject = zoo.subject(name, tmp_path)
    n = subject.n_ctx
    read = []
    table = next(
        m
        for key, m in subject.model.named_modules()
        if isinstance(m, torch.nn.Embedding) and len(m.weight) in range(n, n + 3)
    )
    table.register_forward_hook(lambda module, inputs, output: read.append(output))
    subject.model(torch.ones(1, n, dtype=torch.long), use_cache=False)
    np.testing.assert_array_equal(wb.position_encoding(subject).matrix, read[0].reshape(n, -1))


@pytest.mark.parametrize("name", ["gptj", "codegen", "llama", "gpt_neox", "phi", "glm", "cohere"])
def test_wavelengths_are_those_of_the_models_own_sines(name, tmp_path):
    subject = zoo.subject(name, tmp_path)
    seen = []
    rotary = next(
        m for key, m in subject.model.named_modules() if key.rpartition(".")[2] == "rotary_emb"
    )
    rotary.register_forward_hook(lambda module, inputs, output: seen.append(output))
    subject.model(torch.arange(1, 9)[None], use_cache=False)
    (sin, cos) = seen[0] if name in ("gptj", "codegen") else seen[0][::-1]
    angle = torch.atan2(sin[0, 1], cos[0, 1]).double()  # of position 1: below pi for every pair
    wavelengths = next(iter(wb.position_encoding(subject).wavelengths.values()))
    frequencies = np.sort(np.unique(np.round(angle, 7)))
    np.testing.assert_allclose(np.sort(2 * np.pi / wavelengths), frequencies, atol=1e-6)


YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}


@pytest.mark.parametrize("rope", [None, YARN], ids=["default", "yarn"])
@pytest.mark.parametrize("pairs", ["halves", "neighbours"])
def test_decay_is_the_models_own_score_of_average_queries_and_keys(rope, pairs):
    """Averages of constant queries and keys are those themselves: scores then fall as the decay
    says.
    """
    more = {} if rope is None else {"rope_parameters": rope}
    if pairs == "halves":
        model = widened(t.LlamaForCausalLM(t.LlamaConfig(**LLAMA, **more)))
    else:
        model = widened(t.Ernie4_5ForCausalLM(t.Ernie4_5Config(**LLAMA, head_dim=8, **more)))
    subject = subject_of(model)
    decay = wb.rotary_use(subject, ["5 5 5 5 5 5 5 5 5 5"], max_distance=5).decay[0]
    model.set_attn_implementation("eager")
    ids = torch.full((1, 10), 5)
    pattern = model(ids, output_attentions=True, use_cache=False).attentions[0][0].detach()
    scores = pattern[:, -1].log().flip(-1)[:, :6]  # by distance, up to a constant
    np.testing.assert_allclose(decay - decay[:, :1], scores - scores[:, :1], atol=1e-5)


def test_a_view_that_computes_other_logits_is_refused():
    config = t.GPT2Config(
        vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64, scale_attn_weights=False
    )
    subject = subject_of(widened(t.GPT2LMHeadModel(config)))
    try:
        view = subject.bridge
    except WorkbenchError as error:
        assert "other logits" in str(error)
    else:
        ids = torch.arange(1, 20)[None]
        assert torch.allclose(view(ids), subject.model(ids).logits, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: falcon(alibi=True),
        lambda: t.GPT2LMHeadModel(
            t.GPT2Config(
                vocab_size=100,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=64,
                scale_attn_weights=False,
            )
        ),
        lambda: t.GPT2LMHeadModel(
            t.GPT2Config(
                vocab_size=100,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=64,
                scale_attn_by_inverse_layer_idx=True,
            )
        ),
    ],
    ids=["falcon-alibi", "gpt2-unscaled", "gpt2-by-layer"],
)
def test_a_pattern_that_is_shown_gives_the_models_own_output(make):
    """The pattern times the values, through the last layer's output, is what that layer's attention
    wrote.
    """
    model = widened(make())
    subject = subject_of(model)
    try:
        pattern = torch.from_numpy(wb.attention(subject, PROMPT).pattern).double()
    except WorkbenchError:
        return  # refused with a sentence: nothing wrong is shown
    block = model.get_submodule("transformer.h.1")
    attn = block.get_submodule("attn" if hasattr(block, "attn") else "self_attention")
    fused = attn.get_submodule("c_attn" if hasattr(attn, "c_attn") else "query_key_value")
    out = attn.get_submodule("c_proj" if hasattr(attn, "c_proj") else "dense")
    seen = {}
    fused.register_forward_hook(lambda m, i, o: seen.update(qkv=o))
    out.register_forward_hook(lambda m, i, o: seen.update(z=i[0]))
    ids = subject.encode(PROMPT)
    model(ids, use_cache=False)
    n = ids.shape[1]
    value = (
        seen["qkv"][0][:, -8:].expand(4, n, 8)
        if fused is not getattr(attn, "c_attn", None)
        else None
    )
    if value is None:
        value = seen["qkv"][0][:, -32:].view(n, 4, 8).transpose(0, 1)
    z = (pattern[1] @ value).transpose(0, 1).reshape(n, 32)
    assert (z - seen["z"][0]).abs().max() < 1e-5


def test_shapes_that_a_configuration_says_in_words_of_its_own():
    assert subject_of(falcon()).card.n_kv_heads == 1
    assert subject_of(falcon(multi_query=False)).card.n_kv_heads == 4
    assert subject_of(falcon(new_decoder_architecture=True, num_kv_heads=2)).card.n_kv_heads == 2
    assert subject_of(bloom()).n_ctx == 2048  # ALiBi sets no limit


def test_rows_with_a_learned_sink_keep_what_goes_to_it_in_the_entropy(tmp_path):
    subject = zoo.subject("gpt_oss", tmp_path)
    prompt = families.PROMPT
    pattern = wb.attention(subject, prompt).pattern.astype(float)
    theirs = families.eager_patterns(subject)
    assert theirs is not None
    assert np.abs(pattern - theirs).max() < 1e-5 and pattern.sum(-1).max() < 0.999
    from workbench.interp.patterns.heads import text_scores

    ids = subject.encode(prompt)
    entropy = text_scores(torch.from_numpy(pattern[:1]), ids)["attention_entropy"][0]
    whole = np.concatenate([theirs[0], 1 - theirs[0].sum(-1, keepdims=True)], -1)
    by_hand = (
        -np.where(whole > 0, whole * np.log2(np.where(whole > 0, whole, 1)), 0).sum(-1).mean(-1)
    )
    np.testing.assert_allclose(entropy, by_hand, atol=1e-5)
