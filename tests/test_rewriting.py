"""Encoder-decoders that answer: greedy writing against transformers' own, and benchmark tasks."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, T5ForConditionalGeneration

import workbench as wb
from tests.test_seq2seq import t5
from workbench.benchmarks.documents.generated import reverse
from workbench.benchmarks.engine.rewriting import why_skipped
from workbench.benchmarks.tasks import generates, load_tasks
from workbench.errors import WorkbenchError
from workbench.generation.rewriting import reading_ids, rewrite
from workbench.subjects import load
from workbench.training.reverse import SETTINGS, strings
from workbench.ui.views.benchmarks import offered

SOURCES = [[3, 1, 4], [15, 9], [26, 5, 35, 8, 9, 7, 9], [3]]


def by_transformers(model: Any, source: list[int], most: int) -> list[int]:
    """What transformers' own greedy search writes about one source, alone and without padding."""
    greedy = {"do_sample": False, "num_beams": 1, "use_cache": False}
    out = model.generate(torch.tensor([source]), max_new_tokens=most, **greedy)
    written = out[0, 1:].tolist()
    return written[: written.index(1)] if 1 in written else written


def bart() -> BartForConditionalGeneration:
    """A random BART, whose decoder adds learned positions and starts with token 2."""
    torch.manual_seed(0)
    unnamed: dict[str, Any] = {"decoder_start_token_id": 2, "forced_eos_token_id": None}
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "init_std": 0.5}
    heads = {"encoder_attention_heads": 3, "decoder_attention_heads": 3, "decoder_ffn_dim": 32}
    shape = {"vocab_size": 40, "d_model": 24, "max_position_embeddings": 64, "eos_token_id": 1}
    tokens = {"pad_token_id": 0, "bos_token_id": 2}
    config = BartConfig(**{**shape, **layers, **heads, **tokens, **unnamed})
    return BartForConditionalGeneration(config).double().eval()


@pytest.mark.parametrize("make", [lambda: t5().model, bart])
def test_rows_of_different_length_are_written_as_transformers_writes_each_alone(make):
    model = make()
    ours = rewrite(model, SOURCES, most=12, ends=frozenset({1}))
    assert ours == [by_transformers(model, source, 12) for source in SOURCES]
    assert len({tuple(row) for row in ours}) > 1  # not one answer to everything


def test_a_text_without_tokens_is_refused():
    with pytest.raises(WorkbenchError, match="needs a text to read, and one is empty"):
        rewrite(t5().model, [[3], []], most=2, ends=frozenset())


def test_strings_are_reversed_in_the_benchmark_as_transformers_reverses_them():
    results = wb.evaluate("shelf-reverse", "reverse", limit=40, cache=False)
    subject = load("shelf-reverse", seq2seq=True)
    assert isinstance(subject.model, T5ForConditionalGeneration)
    (row,) = results.rows
    right = []
    for sample in results.samples.to_dict("records"):
        text = reverse()[sample["doc_id"]]["query"]
        ids = by_transformers(subject.model, reading_ids(subject.tokenizer, text), 24)
        right.append(subject.tokenizer.decode(ids) == text[::-1])
    assert row.metric == "exact_match" and row.n == 40
    assert row.value == np.mean(right) and row.low < row.value <= row.high


def test_no_string_of_the_task_was_trained_on():
    trained = set()
    for step in range(SETTINGS.steps):
        trained |= set(strings(SETTINGS.batch_size, step, held=False))
    assert not trained & {doc["query"] for doc in reverse()}


def test_tasks_without_a_meaning_are_skipped_with_the_reason():
    results = wb.evaluate(
        "shelf-reverse", ["repeat", "reverse", "passage", "induction_head"], limit=3
    )
    assert [row.task for row in results.rows] == ["reverse"]
    reasons = dict(results.skipped)
    assert "repeat asks how likely a continuation is; shelf-reverse is" in reasons["repeat"]
    assert "passage asks how likely" in reasons["passage"]
    assert "scores the heads of a decoder" in reasons["induction_head"]
    with pytest.raises(WorkbenchError, match="No task of 'core' could run: repeat asks how"):
        wb.evaluate("shelf-reverse", "core", limit=3)


def test_a_task_that_draws_its_answers_is_skipped():
    subject = load("shelf-reverse", seq2seq=True)
    task = load_tasks("reverse")["reverse"]
    assert why_skipped(subject, "reverse", task) == ""
    task.set_config(key="generation_kwargs", value={"temperature": 0.5})
    assert "draws its answers at random" in why_skipped(subject, "reverse", task)
    task.set_config(key="generation_kwargs", value={"num_beams": 4})
    assert "sets num_beams" in why_skipped(subject, "reverse", task)


def test_a_decoder_is_asked_the_same_task():
    (row,) = wb.evaluate("shelf-base", "rewriting", limit=5).rows
    assert row.task == "reverse" and row.n == 5


def test_the_model_box_offers_encoder_decoders_where_a_task_is_generated():
    assert generates("reverse") and generates("reverse@shots=2") and not generates("repeat")
    assert "shelf-reverse" in offered("rewriting", [])
    assert "shelf-reverse" not in offered("core", [])
    assert offered("core", ["mine"])[-1] == "mine"
