"""Encoders and encoder-decoders: what they are built of, their attention and their heads' scores,
against transformers' own outputs.
"""

import numpy as np
import pytest
import torch
from transformers import BertForPreTraining

import workbench as wb
from tests.encoders import OTHER, SENTENCE, bert, bert_folder, t5, word_piece
from workbench.errors import WorkbenchError
from workbench.figures.explorer.payload import Heads, payload, pooled, quantise, restore, unpack
from workbench.interp.patterns import pooling
from workbench.interp.patterns.part_scores import PART_SCORES, part_scores
from workbench.interp.stacks.runs import PARTS, stacks_of
from workbench.speed.stack_families import measure_stack
from workbench.subjects import Subject, available, load, zoo_stacks


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Subject:
    return bert(tmp_path_factory.mktemp("models") / "tiny-bert")


def eager(subject: Subject, **given):
    """The model's run with transformers' own eager attention, all its patterns handed out."""
    model = subject.model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            return model(**given, output_attentions=True)
    finally:
        model.set_attn_implementation(str(before))


def test_an_encoder_is_loaded_if_it_is_asked_for_and_else_refused_with_the_reason(tmp_path):
    folder = bert_folder(tmp_path / "bert")
    with pytest.raises(WorkbenchError, match="encoder-only model: it fills gaps"):
        load(folder)
    assert load(folder, encoder=True).kind == "encoder"


def test_a_bert_with_its_head_for_pairs_of_sentences_is_loaded_without_it(tmp_path, encoder):
    model = BertForPreTraining(encoder.model.config).eval()
    model.save_pretrained(tmp_path / "whole")
    word_piece().save_pretrained(tmp_path / "whole")
    subject = load(tmp_path / "whole", encoder=True, device="cpu")
    ids = subject.encode(SENTENCE)
    with torch.no_grad():
        torch.testing.assert_close(subject.model(ids).logits, model(ids).prediction_logits)


def test_an_encoder_is_refused_by_what_predicts_a_next_token(encoder):
    for call in (wb.head_catalogue, wb.composition, wb.position_encoding):
        with pytest.raises(WorkbenchError, match="encoder-only model"):
            call(encoder)
    with pytest.raises(WorkbenchError, match="encoder-decoder model"):
        wb.gradient_attention(t5(), "3 1 4")


def test_folders_of_encoders_are_listed_as_what_they_are(tmp_path, monkeypatch):
    bert_folder(tmp_path / "tiny-bert")
    monkeypatch.setenv("WORKBENCH_MODELS", str(tmp_path))
    kinds = {model.name: (model.kind, model.writes) for model in available()}
    assert kinds["tiny-bert"] == ("encoder", False)
    assert kinds["shelf-base"] == ("bundled", True)


def test_an_encoders_attention_is_transformers_own_and_sees_both_ways(encoder):
    read = wb.attention(encoder, SENTENCE)
    ids = encoder.encode(SENTENCE)
    theirs = torch.stack(eager(encoder, input_ids=ids).attentions)[:, 0]
    np.testing.assert_allclose(read.pattern, theirs.numpy(), atol=1e-6)
    assert read.tokens[0] == "[CLS]" and read.tokens[-1] == "[SEP]" and "[MASK]" in read.tokens
    assert np.triu(read.pattern[0, 0], 1).sum() > 0.1
    assert len(read.to_frame(0, 0)) == len(read.tokens) ** 2


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
def test_each_attention_of_a_t5_is_transformers_own(kind, part):
    subject = t5(kind)
    read = wb.attention(subject, "3 1 4 15 9", part=part, target="7 7 2")
    ids = subject.encode("3 1 4 15 9")
    target = torch.tensor([[0, 7, 7, 2]])
    out = eager(subject, input_ids=ids, decoder_input_ids=target)
    name = {"encoder": "encoder_attentions", "decoder": "decoder_attentions"}.get(
        part, "cross_attentions"
    )
    theirs = torch.stack(out[name])[:, 0]
    np.testing.assert_allclose(read.pattern, theirs.numpy(), atol=1e-6)
    assert read.part == part
    assert read.key_tokens == (["3", "1", "4", "15", "9"] if part == "cross" else [])


def test_the_lengths_of_values_are_what_a_head_would_write(encoder):
    """By a run in which one head of one layer attends to one token alone."""
    read = wb.attention(encoder, SENTENCE)
    assert read.value_norms is not None
    layer = encoder.model.bert.encoder.layer[1].attention
    taken = []
    layer.self.value.register_forward_hook(lambda _m, _a, out: taken.append(out[0]))
    with torch.no_grad():
        encoder.model(encoder.encode(SENTENCE))
        alone = torch.zeros_like(taken[0])
        alone[:, 8:16] = taken[0][:, 8:16]  # head 1 of d_head 8
        wrote = alone @ layer.output.dense.weight.T
    np.testing.assert_allclose(read.value_norms[1, 1], wrote.norm(dim=-1).numpy(), rtol=1e-5)


def test_an_encoder_writes_nothing_and_a_decoder_has_no_part(encoder, tiny):
    with pytest.raises(WorkbenchError, match="writes nothing, so it has no target"):
        wb.attention(encoder, SENTENCE, target="cat")
    with pytest.raises(WorkbenchError, match="has no part 'cross'"):
        wb.attention(encoder, SENTENCE, part="cross")
    with pytest.raises(WorkbenchError, match="decoder-only model: it has no cross"):
        wb.attention(tiny, "3", part="cross")


def test_squares_come_back_from_the_payload_whole_and_pooled(encoder):
    read = wb.attention(encoder, SENTENCE)
    shown = Heads(read.pattern, read.tokens, "bert", causal=False)
    header, parts = unpack(payload(shown, chosen=(0, 0)))
    back = restore(parts["levels"], parts["scale"], causal=False)
    np.testing.assert_allclose(back, read.pattern, atol=1e-5)
    assert header["causal"] is False and header["read"] == 0
    rng = np.random.default_rng(0)
    square = rng.random((2, 300, 300), np.float32)
    square /= square.sum(-1, keepdims=True)
    np.testing.assert_allclose(pooling.pooled(square, 32), pooled(square, 32), atol=1e-6)
    levels, scale = quantise(square, 8, causal=False)
    assert levels.shape == (2, 300 * 300)
    np.testing.assert_allclose(restore(levels, scale, causal=False), square, atol=1e-4)


def test_cross_attention_stands_in_a_square_over_both_texts():
    read = wb.attention(t5(), "3 1 4 15 9", target="7 7")
    square = read.joined()
    assert square.tokens == ["3", "1", "4", "15", "9", "0", "7", "7"]
    np.testing.assert_array_equal(square.pattern[:, :, 5:, :5], read.pattern)
    assert np.triu(square.pattern, 1).sum() == 0  # so a triangle holds it
    assert square.pattern.sum() == read.pattern.sum()
    assert read.to_html is not None and "<html" in read.page(2, 1)[:200].lower()


def test_scores_of_an_encoders_pattern_by_hand():
    """Four tokens, of which the first and the third are alike."""
    pattern = torch.tensor(
        [[0.1, 0.2, 0.3, 0.4], [0.5, 0.0, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0, 1.0]]
    )
    ids = torch.tensor([[7, 8, 7, 9]])
    scores = {k: float(v) for k, v in part_scores(pattern[None, None], "encoder", ids, ids).items()}
    assert scores["previous_token_score"] == pytest.approx((0.5 + 0.25 + 0) / 3)
    assert scores["next_token_score"] == pytest.approx((0.2 + 0.5 + 0.25) / 3)
    assert scores["duplicate_token_score"] == pytest.approx((0.3 + 0.25) / 2)
    assert scores["first_token_attention"] == pytest.approx((0.1 + 0.5 + 0.25 + 0) / 4)
    assert scores["last_token_attention"] == pytest.approx((0.4 + 0 + 0.25 + 1) / 4)
    distances = [0.2 + 0.6 + 1.2, 0.5 + 0.5, 0.5 + 0.25 + 0.25, 0]
    assert scores["mean_distance"] == pytest.approx(sum(distances) / 4)


def test_scores_of_cross_attention_by_hand():
    """Two written tokens after the start; 5 stands in the text, 6 twice."""
    pattern = torch.tensor([[0.7, 0.1, 0.2], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3]])
    queries = torch.tensor([[0, 5, 6]])
    keys = torch.tensor([[5, 6, 6]])
    scores = part_scores(pattern[None, None], "cross", queries, keys)
    assert float(scores["next_written_score"]) == pytest.approx((0.7 + 0.8) / 2)
    assert float(scores["last_written_score"]) == pytest.approx((0.2 + 0.6) / 2)


def test_head_scores_have_what_has_a_meaning_in_each_part(encoder):
    scores = wb.head_scores(encoder, n=6, length=8)
    assert set(scores.mean) == set(PART_SCORES["encoder"])
    assert scores.mean["attention_entropy"].shape == (3, 4) and scores.n == 6
    assert "induction_score" not in scores.to_frame()
    for part in PARTS:
        of_part = wb.head_scores(t5(), n=6, length=5, part=part)
        assert set(of_part.mean) == set(PART_SCORES[part]) and of_part.part == part
    assert (scores.low["mean_distance"] <= scores.mean["mean_distance"]).all()


def test_the_bundled_model_looks_at_the_letter_it_writes_next():
    """It reverses a string, so what is written next stands where its best heads look."""
    from workbench.training.reverse import strings

    subject = wb.load("shelf-reverse", seq2seq=True)
    texts = strings(20, seed=7, held=True)
    scores = wb.head_scores(subject, texts=texts, part="cross")
    assert scores.mean["next_written_score"].max() > 0.9
    assert scores.mean["last_written_score"].max() < 0.5


FAMILIES = ("albert", "bart", "distilbert", "mobilebert", "modernbert", "roberta", "t5")
"""Families that are built differently: shared layers, bottlenecks, rotary positions, two stacks."""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_gives_transformers_patterns_and_passes_every_check_or_says_why_not(name):
    family = next(f for f in zoo_stacks.stack_families() if f.name == name)
    measured = measure_stack(family)
    assert measured.loads == "" and measured.faults == {}
    assert measured.outcome["attention"] == "exact"
    assert measured.outcome["patch z"] == "numbers"


@pytest.mark.slow
@pytest.mark.parametrize("family", zoo_stacks.stack_families(), ids=lambda family: family.name)
def test_no_family_of_encoders_or_encoder_decoders_has_a_fault(family):
    measured = measure_stack(family)
    assert not measured.loads.startswith("FAULT") and measured.faults == {}


def test_the_structure_is_found_by_a_run_and_not_by_names(encoder):
    names = {module: name for name, module in stacks_of(encoder).model.named_modules()}
    layer = stacks_of(encoder).layer("encoder", 1)
    assert names[layer.block] == "bert.encoder.layer.1"
    assert names[layer.out] == "bert.encoder.layer.1.attention.output.dense"
    assert names[layer.mid] == "bert.encoder.layer.1.attention.output.LayerNorm"
    assert names[layer.mlp] == "bert.encoder.layer.1.output.dense"
    assert wb.attention(encoder, OTHER).pattern.shape[0] == 3
