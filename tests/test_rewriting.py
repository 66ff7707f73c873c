"""Encoder-decoders that answer: greedy writing against transformers' own, and benchmark tasks."""

import json
import random
import re
from contextlib import suppress
from datetime import datetime
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
from workbench.data import dates
from workbench.errors import WorkbenchError
from workbench.generation.rewriting import reading_ids, rewrite
from workbench.store import Store
from workbench.store.tracker import Wrapped
from workbench.subjects import load
from workbench.training import Recipe, evaluation
from workbench.training.reverse import SETTINGS, strings
from workbench.training.rows import Row
from workbench.training.start import carry_out, start
from workbench.training.stepper import summed_loss
from workbench.training.tasks.rewriting import closeness, edit_distance
from workbench.training.two_texts import TwoTexts, collate_two, logits_of
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


# -- training --------------------------------------------------------------------------------------

TRAIN = {
    "steps": 600,
    "batch_size": 32,
    "lr": 6e-3,
    "warmup": 20,
    "decay": 0.6,
    "optimizer": "adamw",
    "beta2": 0.98,
    "precision": "no",
    "checkpoint_every": 50,
    "eval_every": 50,
}


@pytest.fixture
def rule(tmp_path) -> str:
    """A file of strings of three to five of the letters a to d, each with all letters moved on."""
    draw = random.Random(0)
    texts = {"".join(draw.choices("abcd", k=draw.randint(3, 5))) for _ in range(1500)}
    moved = str.maketrans("abcd", "bcda")
    rows = [{"source": text, "target": text.translate(moved)} for text in sorted(texts)]
    path = tmp_path / "rule.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def recipe(data: str, base: str = "shelf-blank", kind: str = "rewriting", **more: Any) -> Recipe:
    """A fine-tune of the untrained encoder-decoder."""
    task = {"kind": kind, "data": data, "eval_items": 100}
    train = {**TRAIN, **more.pop("train", {})}
    words = {"title": "rule", "kind": "finetune", "base": base, "corpus": {"validation": 0.1}}
    return Recipe.from_dict({**words, "task": task, "train": train, **more})


def test_a_planted_rule_is_learned_and_transformers_reads_the_checkpoint_alike(rule):
    run = wb.train(recipe(rule))
    assert run.result is not None
    changes = {change["metric"]: change for change in run.result["changes"]}
    exact = changes["exact_match"]
    assert exact["base"] == 0 and exact["tuned"] > 0.9 and exact["low"] > 0.8
    assert changes["closeness"]["tuned"] > 0.95
    tuned = load(f"run:{run.id}", seq2seq=True)
    frame = evaluation.answers(run.folder, "tuned")
    assert frame is not None
    for row in frame.head(30).to_dict("records"):
        ids = by_transformers(tuned.model, reading_ids(tuned.tokenizer, row["input"]), 12)
        assert tuned.tokenizer.decode(ids) == row["prediction"]
        assert row["score"] == (row["prediction"] == row["target"])


def test_a_resumed_run_equals_one_that_was_never_stopped(rule):
    short = {"steps": 30, "checkpoint_every": 10, "eval_every": 10}
    whole = wb.train(recipe(rule, train=short))
    store = Store()
    stopped = start(recipe(rule, train=short), store)

    class Stopping(Wrapped):
        def log(self, step: int, **values: float) -> None:
            super().log(step, **values)
            if step == 17 and "loss" in values:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(stopped, store, Stopping)
    again = wb.resume(stopped.id)
    assert again.status == "done"
    for name in ("loss", "validation_loss", "grad_norm"):
        assert curve(again.id, name) == curve(whole.id, name)
    hashes = [load(f"run:{run.id}", seq2seq=True).hash for run in (again, whole)]
    assert hashes[0] == hashes[1]


def curve(run_id: str, name: str) -> list[list[float]]:
    """The steps and values of a metric of a run."""
    frame: Any = Store().metrics(run_id)
    return frame.loc[frame["name"] == name, ["step", "value"]].to_numpy().tolist()


def test_the_loss_of_a_batch_is_that_of_each_row_alone_by_transformers():
    model = t5().model
    rows = [
        Row([3, 4, 1, 5, 1], [False] * 3 + [True] * 2),
        Row([7, 1, 8, 9, 2, 1], [False] * 2 + [True] * 4),
    ]
    inputs, targets = collate_two(rows, start=0)
    ours = summed_loss(logits_of(model, inputs), targets)
    theirs = 0.0
    for row in rows:
        source = torch.tensor([row.prompt])
        target = torch.tensor([row.ids[len(row.prompt) :]])
        theirs += float(model(input_ids=source, labels=target).loss) * row.n_learned
    assert float(ours) == pytest.approx(theirs, rel=1e-5)
    halves = inputs.chunk(2)
    assert [len(half) for half in halves] == [1, 1]
    assert inputs.numel() == sum(map(TwoTexts.numel, halves)) == 2 * 3 + 2 * 4


def test_what_is_for_decoders_only_is_refused_in_a_sentence(rule):
    with pytest.raises(WorkbenchError, match=r"\[lora\] is for decoder-only models"):
        wb.train(recipe(rule, lora={}))
    with pytest.raises(WorkbenchError, match=r"\[privacy\] is for decoder-only models"):
        wb.train(recipe(rule, privacy={}))
    with pytest.raises(WorkbenchError, match='set optimizer = "adamw"'):
        wb.train(recipe(rule, train={"optimizer": "muon"}))
    with pytest.raises(WorkbenchError, match="shelf-base is a decoder-only model"):
        wb.train(recipe(rule, base="shelf-base"))
    with pytest.raises(WorkbenchError, match="learns the task rewriting only"):
        wb.train(recipe("sst2", kind="classification"))


def test_the_distance_of_texts_is_worked_out_by_hand():
    assert [
        edit_distance(*pair) for pair in (("kitten", "sitting"), ("", "abc"), ("ab", "ba"))
    ] == [3, 3, 2]
    assert closeness("1984-03-03", "1984-03-03") == 1 and closeness("", "ab") == 0
    assert closeness("1984-03-13", "1984-03-03") == pytest.approx(0.9)


def test_dates_are_those_that_the_calendar_gives_and_no_day_is_in_both_splits():
    forms = (
        "%d %B %Y",
        "%B %d, %Y",
        "%d %b %Y",
        "%b %d, %Y",
        "%A, %d %B %Y",
        "%A, %b %d, %Y",
        "%d.%m.%Y",
    )
    days = {split: {row["target"] for row in dates.records(split)} for split in dates.COUNTS}
    assert not days["train"] & days["test"] and dates.records("test") == dates.records("test")
    for row in dates.records("test"):
        plain = re.sub(r"(?<=\d)(st|nd|rd|th)( of)?|^the ", "", row["source"])
        plain = re.sub(r"^(\d+ \w+),", r"\1", plain)
        read = set()
        for form in forms:
            with suppress(ValueError):
                read.add(datetime.strptime(plain, form).date().isoformat())
        assert read == {row["target"]}, row
    assert [
        dates.ordinal(n) for n in (1, 2, 3, 11, 12, 13, 21, 22, 30)
    ] == "1st 2nd 3rd 11th 12th 13th 21st 22nd 30th".split()
