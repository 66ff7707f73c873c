"""Models outside the tested families: read where they can be, and otherwise a sentence that says
why not.
"""

from typing import Any

import pytest
import torch
import transformers as t

from tests.conftest import subject_of, tiny_gpt
from workbench import (
    anatomy,
    attention,
    gradient_attention,
    head_catalogue,
    loss_by_position,
    position_encoding,
)
from workbench.errors import WorkbenchError
from workbench.interp.families import TESTED, any_family

SIZE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
WIDE: dict[str, Any] = {
    **SIZE,
    "num_key_value_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
PROMPT = "3 1 2 3 1"


def made(name: str):
    torch.manual_seed(0)
    models = {
        "opt": lambda: t.OPTForCausalLM(
            t.OPTConfig(**SIZE, ffn_dim=64, word_embed_proj_dim=32, max_position_embeddings=64)
        ),
        "bloom": lambda: t.BloomForCausalLM(
            t.BloomConfig(vocab_size=100, hidden_size=32, n_layer=2, n_head=4)
        ),
        "lfm2": lambda: t.Lfm2ForCausalLM(
            t.Lfm2Config(**WIDE, layer_types=["conv", "full_attention"])
        ),
        "olmo2": lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**WIDE, pad_token_id=0)),
        "gptj": lambda: t.GPTJForCausalLM(
            t.GPTJConfig(
                vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=48, rotary_dim=4
            )
        ),
    }
    return subject_of(models[name]().eval(), name)


def test_a_model_without_attention_is_refused_with_the_reason():
    config = t.MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, state_size=8)
    with pytest.raises(WorkbenchError, match=r"mixer \(MambaForCausalLM\) has no attention heads"):
        subject_of(t.MambaForCausalLM(config), "mixer")


def test_a_model_with_attention_in_some_layers_says_in_how_many():
    subject = made("lfm2")
    for ask in (attention, gradient_attention):
        with pytest.raises(WorkbenchError, match="patterns in 1 of 2 layers"):
            ask(subject, PROMPT)
    with pytest.raises(WorkbenchError, match="patterns in 1 of 2 layers"):
        head_catalogue(subject, n=2, length=8)


@pytest.mark.parametrize("name", ["opt", "bloom", "olmo2", "gptj"])
def test_patterns_of_other_families_are_read_all_the_same(name):
    pattern = attention(made(name), PROMPT).pattern
    assert pattern.shape == (2, 4, 5, 5)
    assert abs(pattern.sum(-1) - 1).max() < 1e-5
    assert position_encoding(made(name)).kind in ("learned", "alibi", "rotary")


def test_what_is_not_known_of_a_family_is_a_sentence_with_its_architecture():
    with pytest.raises(WorkbenchError, match=r"OPTForCausalLM.*Tested families"):
        anatomy(made("opt"), PROMPT, layer=1, head=0)
    with pytest.raises(WorkbenchError, match="does not let gradients through"):
        gradient_attention(made("opt"), PROMPT)
    with pytest.raises(WorkbenchError, match=r"olmo2 \(Olmo2ForCausalLM\)"):
        head_catalogue(made("olmo2"), n=2, length=8)


def test_steps_that_a_model_does_otherwise_are_told_from_those_that_hold():
    # BLOOM norms its embedding, which no formula here does.
    worked = anatomy(made("bloom"), PROMPT, layer=1, head=0)
    assert worked.disagreeing[0].name == "Embedding" and worked.disagreeing[0].holds is False
    assert not anatomy(subject_of(tiny_gpt()), PROMPT, layer=1, head=0).disagreeing


def test_loss_ends_with_the_context_where_turns_are_kept_in_a_table():
    losses = loss_by_position(made("gptj"), [" ".join(str(i) for i in range(100))] * 2)
    assert losses.start.tolist() == [0, 16]


def test_an_error_in_a_tested_family_stays_an_error():
    @any_family
    def broken(subject):
        raise KeyError("ln1")

    with pytest.raises(KeyError):
        broken(subject_of(tiny_gpt()))
    with pytest.raises(WorkbenchError, match="ln1"):
        broken(made("opt"))
    assert "opt" not in TESTED
