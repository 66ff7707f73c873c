"""Encoder-decoder models: each attention worked out by T5's formulas, and the bundled model that
reverses strings.
"""

import numpy as np
import pytest
from transformers import BertConfig, BertForMaskedLM, T5ForConditionalGeneration

from tests.encoders import t5
from workbench.errors import WorkbenchError
from workbench.interp.anatomy.decoder import anatomy
from workbench.interp.anatomy.seq2seq import PARTS, anti_diagonal
from workbench.interp.anatomy.t5 import distance_buckets
from workbench.subjects import available, load
from workbench.training.reverse import right, strings

SHARE = 0.9
"""Of the best cross-attention head on the anti-diagonal, at the low end of the interval."""


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
def test_every_step_of_every_attention_is_the_models(kind, part):
    worked = anatomy(
        t5(kind), "3 1 4 15 9 26 5 35 8", layer=1, head=2, part=part, target="7 7 2 30"
    )
    checked = {s.name: s.deviation for s in worked.steps if s.deviation is not None}
    # T5's norm takes its variance in float32, whatever the weights.
    assert max(checked.values()) < 1e-5, checked
    must = {
        "Embedding",
        "Norm",
        "Query",
        "Key",
        "Value",
        "Softmax",
        "Weighted sum",
        "Output projection",
    }
    must |= {
        "encoder": {"Position bias", "MLP", "Layer output"},
        "decoder": {"Position bias", "Logits"},
        "cross": {"Encoder output", "MLP", "Layer output", "Logits"},
    }[part]
    assert must <= checked.keys()
    assert ("Mask" in {s.name for s in worked.steps}) == (part == "decoder")


def test_cross_attention_has_a_row_a_written_token_and_a_column_a_read_one():
    worked = anatomy(t5(), "3 1 4", layer=2, head=0, target="7 7")
    softmax = next(s for s in worked.steps if s.name == "Softmax")
    rows, columns = worked.axes(softmax)
    assert rows == ["0", "7", "7"] and columns == ["3", "1", "4"]
    assert softmax.values.shape == (3, 3)
    np.testing.assert_allclose(softmax.values.sum(-1), 1, atol=1e-6)
    key = next(s for s in worked.steps if s.name == "Key")
    assert worked.axes(key) == (["3", "1", "4"], None)


def test_far_distances_share_buckets_as_worked_out_by_hand():
    one_way = distance_buckets(9, both_ways=False, n_buckets=4, furthest=8)
    # Distances 8 to 0; 4 is a half of the way in logarithm.
    assert one_way[8].tolist() == [
        3,
        3,
        3,
        3,
        3,
        2,
        2,
        1,
        0,
    ]
    assert one_way[0].tolist() == [0] * 9  # later keys are masked anyway
    both = distance_buckets(3, both_ways=True, n_buckets=8, furthest=8)
    assert both.tolist() == [[0, 5, 6], [1, 0, 5], [2, 1, 0]]


def test_a_head_that_looks_everywhere_alike_has_an_even_share_of_the_anti_diagonal():
    subject = load("shelf-reverse", seq2seq=True)
    for i in range(subject.card.n_layers):
        name = f"decoder.block.{i}.layer.1.EncDecAttention.q.weight"
        subject.model.get_parameter(name).zero_()
    shares = anti_diagonal(subject, ["abc", "wxyz"])
    # The end token is a key too.
    np.testing.assert_allclose(shares.mean, (1 / 4 + 1 / 5) / 2, atol=1e-6)
    assert shares.n == 2


def test_the_bundled_model_reverses_strings_it_never_saw_and_looks_along_the_anti_diagonal():
    subject = load("shelf-reverse", seq2seq=True)
    held = strings(200, 7, held=True)
    assert isinstance(subject.model, T5ForConditionalGeneration)
    assert np.mean(right(subject.model, subject.tokenizer, held)) > 0.95
    shares = anti_diagonal(subject, held[:40])
    assert shares.low[shares.best] > SHARE


def test_the_anatomy_reads_what_the_model_itself_writes():
    worked = anatomy(load("shelf-reverse", seq2seq=True), "abcd", layer=0, head=0)
    assert worked.tokens == ["<pad>", "d", "c", "b", "a"] and worked.sources == [
        "a",
        "b",
        "c",
        "d",
        "</s>",
    ]
    assert worked.next_tokens["token"].tolist()[0] == "</s>" and worked.deviation < 1e-5


def test_what_takes_no_encoder_decoder_model_says_what_does():
    with pytest.raises(WorkbenchError, match="is an encoder-decoder model; Anatomy, Attention"):
        load("shelf-reverse")
    assert {a.name: a.kind for a in available()}["shelf-reverse"] == "seq2seq"
    subject = t5()
    with pytest.raises(WorkbenchError, match="has no L2H0; it has L0H0 to L1H2"):
        anatomy(subject, "3", layer=2, head=0, part="encoder")
    with pytest.raises(WorkbenchError, match="no part 'middle'"):
        anatomy(subject, "3", layer=0, head=0, part="middle")


def test_a_decoder_has_no_part_to_choose(tiny):
    with pytest.raises(WorkbenchError, match="decoder-only"):
        anatomy(tiny, "3", layer=0, head=0, part="cross")


def test_an_encoder_is_refused_with_the_reason(tmp_path):
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(WorkbenchError, match="encoder-only model: it fills gaps"):
        load(tmp_path / "bert")
