"""The harness over tiny models: parity with lm-eval's own, suites, resuming."""

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.conftest import harness_model, weight_of
from workbench.benchmarks import Results, compare_results, evaluate, suites
from workbench.benchmarks.results.record import sample_frame
from workbench.benchmarks.suites import find_suite
from workbench.errors import WorkbenchError
from workbench.store.tracker import Tracker
from workbench.subjects import Subject

TEXT = (
    "the cat sat on the mat and the dogs are near the house while Mary and John went to the store"
)
STORIES = Path(os.environ.get("WORKBENCH_MODELS", "")) / "small" / "stories260k" / "hf"


@dataclass
class TinySubject:
    """As much of a Subject as the harness asks for, round any model and tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: object
    n_ctx: int
    hash: str = "0" * 64

    @property
    def device(self):
        return torch.device("cpu")

    @property
    def d_embed(self):
        return weight_of(self.model.get_input_embeddings()).shape[0]


def tiny_subject(name: str, model: PreTrainedModel, tokenizer, n_ctx: int) -> Subject:
    """A `TinySubject` in a Subject's place."""
    return cast("Subject", TinySubject(name, model, tokenizer, n_ctx))


@pytest.fixture(scope="module")
def tokenizer():
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|end|>", bos_token="<|end|>")


def make(family: str, n_ctx: int = 96):
    torch.manual_seed(0)
    llama: dict[str, Any] = {
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": n_ctx,
        "head_dim": 8,
    }
    match family:
        case "gpt2":
            model = GPT2LMHeadModel(
                GPT2Config(vocab_size=512, n_positions=n_ctx, n_embd=32, n_layer=2, n_head=4)
            )
        case "neox":
            sizes = {k: v for k, v in llama.items() if k not in ("head_dim", "num_key_value_heads")}
            model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes))
        case "gemma2":
            model = Gemma2ForCausalLM(
                Gemma2Config(**llama, final_logit_softcapping=0.5, sliding_window=16)
            )
        case _:
            model = LlamaForCausalLM(LlamaConfig(**llama))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # far from uniform, so that parity means something
    return model.eval().requires_grad_(False)


@pytest.fixture
def subject(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORKBENCH_DATA", raising=False)
    return TinySubject("tiny", make("gpt2", 256), tokenizer, 256)


def instances(arguments) -> list[Any]:
    return [SimpleNamespace(args=args, request_type="", task_name="t") for args in arguments]


PAIRS = [
    ("the cat sat on the mat", " and the dogs"),
    ("the cat sat on the mat", " near"),
    ("the cat sat on the mat", " near the house"),
    ("the cat sat on the mat ", "a drink"),
    ("", "Mary and John went to the store"),
    ("", "Mary and John went to the park"),
    ("the dogs are near the house", " a"),
    ("the dogs are near the house", " b"),
    (TEXT * 5, " the cat"),
    (TEXT * 5, " a long walk"),
]


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "gemma2"])
def test_loglikelihoods_equal_those_of_lm_evals_own_model(family, tokenizer):
    from workbench.benchmarks.engine.lm import SubjectLM

    model = make(family)
    theirs = harness_model(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=96)
    ours = SubjectLM(tiny_subject("tiny", model, tokenizer, 96))
    expected = theirs.loglikelihood(instances(PAIRS), disable_tqdm=True)
    for (value, greedy), (reference, reference_greedy) in zip(
        ours.loglikelihood(instances(PAIRS)), expected, strict=True
    ):
        assert value == pytest.approx(reference, abs=1e-3)
        assert greedy == reference_greedy
    assert ours.n_truncated == 2
    # Softcapped logits must not be rebuilt from hidden states; all four families share prefixes.
    works = {"packed": True, "hidden": family != "gemma2", "laid out": True}
    assert ours.scorer.works == {
        k: works[k] for k in works if k != "laid out" or ours.scorer.layout.possible
    }
    texts = instances([(TEXT,), (TEXT * 5,), ("the",)])
    assert ours.loglikelihood_rolling(texts) == pytest.approx(
        theirs.loglikelihood_rolling(texts), abs=1e-3
    )


def test_laid_out_weights_give_the_same_products_follow_a_change_and_leave_no_trace():
    from workbench.benchmarks.engine.onednn import Layout

    model = make("llama")
    layout = Layout(model)
    ids = torch.arange(24)[None]
    seen = []
    plain = model(ids).logits
    assert layout.possible
    with torch.no_grad(), layout:
        hook = model.lm_head.register_forward_hook(lambda *_: seen.append(1))
        torch.testing.assert_close(model(ids).logits, plain, atol=1e-4, rtol=1e-4)
        assert seen == [1] and "forward" in model.lm_head.__dict__
        hook.remove()
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
        with layout:
            torch.testing.assert_close(model(ids).logits, 2 * plain, atol=1e-4, rtol=1e-4)
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert not Layout(model.bfloat16()).possible


def test_the_bench_says_where_the_time_went(tokenizer):
    from workbench.benchmarks.engine.lm import SubjectLM
    from workbench.speed.evaluation import Spent

    # A set budget: by itself it grows with the machine's threads, and the padding with it.
    lm = SubjectLM(tiny_subject("tiny", make("llama"), tokenizer, 96), token_budget=256)
    with Spent(lm) as spent:
        began = time.perf_counter()
        values = lm.loglikelihood(instances(PAIRS))
        seconds = time.perf_counter() - began
    shares = spent.shares(seconds)
    assert 0 < shares["tokens"] < 1  # shared prefixes were computed once
    assert sum(shares[part] for part in ("body", "head", "rest")) == pytest.approx(1, abs=0.002)
    assert min(shares.values()) > 0 and lm.loglikelihood(instances(PAIRS)) == values


def test_a_prefix_stands_in_a_row_once_and_a_token_sees_its_ancestors_only():
    from workbench.benchmarks.engine.loglikelihood import Request, batches, plan

    inputs = [(1, 2, 3), (1, 2, 4, 5), (1, 2, 4, 6), (1, 2, 3), (9, 9)]
    rows = plan(
        [Request(i, tokens, (7,)) for i, tokens in enumerate(inputs)], limit=64, reach=64, worth=50
    )
    assert sorted(row.tokens for row in rows) == [[1, 2, 3, 4, 5, 6], [9, 9]]
    tree = next(row for row in rows if row.branches)
    assert tree.positions == [0, 1, 2, 2, 3, 3]
    assert tree.seen()[5].nonzero()[:, 0].tolist() == [0, 1, 3, 5]
    assert [row.length for batch in batches(rows, 64) for row in batch] == [2, 6]


def test_generation_equals_lm_evals_own_model(tokenizer):
    from workbench.benchmarks.engine.lm import SubjectLM

    model = make("llama")
    requests = [(TEXT[:n], {"until": [" the"], "max_gen_toks": 12}) for n in (20, 40, 30)]
    theirs = harness_model(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=96)
    ours = SubjectLM(tiny_subject("tiny", model, tokenizer, 96))
    assert ours.generate_until(instances(requests)) == theirs.generate_until(
        instances(requests), disable_tqdm=True
    )


@pytest.mark.skipif(not STORIES.is_dir(), reason="needs WORKBENCH_MODELS/small/stories260k")
def test_stories260k_equals_lm_evals_own_model_on_whole_tasks(monkeypatch, tmp_path):
    from lm_eval.evaluator import evaluate as harness

    from workbench.benchmarks.engine.lm import SubjectLM
    from workbench.benchmarks.tasks import load_tasks

    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    vocabulary = [
        (token, score) for token, score in json.loads((STORIES / "tok512.json").read_text())
    ]
    bare = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    bare.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, bos_token="\n<s>\n", eos_token="\n</s>\n"
    )
    model = LlamaForCausalLM.from_pretrained(STORIES).eval()
    lms = [
        SubjectLM(tiny_subject("stories", model, tokenizer, 512)),
        harness_model(pretrained=model, tokenizer=tokenizer, batch_size=8),
    ]
    for name in ("repeat", "agreement", "ioi", "passage", "intents"):
        answers = []
        for lm in lms:
            samples = {name: list(range(8))}
            output = harness(lm, {"tasks": load_tasks(name)}, samples=samples, bootstrap_iters=0)
            assert output is not None and "samples" in output
            answers.append(output["samples"][name])
        for ours, theirs in zip(*answers, strict=True):
            flat = [
                torch.tensor(s["filtered_resps"], dtype=torch.float64).flatten()
                for s in (ours, theirs)
            ]
            torch.testing.assert_close(*flat, atol=1e-3, rtol=0)
            assert [ours[m] for m in ours["metrics"] if m == "acc"] == [
                theirs[m] for m in theirs["metrics"] if m == "acc"
            ]


def test_a_model_that_ignores_positions_falls_back_to_plain_calls(tokenizer, monkeypatch):
    from workbench.benchmarks.engine.lm import SubjectLM

    model = make("gpt2")
    forward = model.forward

    def without_positions(input_ids, use_cache=None):
        return forward(input_ids=input_ids, use_cache=use_cache)

    monkeypatch.setattr(model, "forward", without_positions)
    lm = SubjectLM(tiny_subject("tiny", model, tokenizer, 96))
    values = [value for value, _ in lm.loglikelihood(instances(PAIRS))]
    assert lm.scorer.works["packed"] is False
    reference = SubjectLM(tiny_subject("tiny", make("gpt2"), tokenizer, 96)).loglikelihood(
        instances(PAIRS)
    )
    assert values == pytest.approx([value for value, _ in reference], abs=1e-3)


def test_nothing_to_score_is_nan_and_not_zero(tokenizer):
    from workbench.benchmarks.engine.lm import SubjectLM

    lm = SubjectLM(tiny_subject("tiny", make("gpt2"), tokenizer, 96))
    answers = lm.loglikelihood(
        instances([("the cat", ""), ("the cat", TEXT * 5), ("the cat", " sat")])
    )
    assert [value != value for value, _ in answers] == [True, True, False]


def test_core_runs_on_a_tiny_model_and_every_row_has_n_and_stderr(subject, capsys):
    heard = []
    results = evaluate(
        subject, limit=6, progress=lambda fraction, message: heard.append((fraction, message))
    )
    assert capsys.readouterr().out == ""
    assert not results.skipped
    assert {row.task for row in results.rows} == set(suites()["core"].tasks)
    for row in results.rows:
        assert row.n == 6 and row.n_unscored == 0
        assert row.stderr >= 0 and row.low <= row.value <= row.high
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert heard[0][1] == "tiny · repeat 1/5"
    sample = results.samples[results.samples["task"] == "intents"].iloc[0]
    assert sample["input"].startswith("Request: ") and sample["input"].endswith("\nIntent:")
    choices = json.loads(sample["choices"])
    values = json.loads(sample["loglikelihoods"])
    assert len(choices) == len(values) == 4 and choices[0].startswith(" ")
    assert sample["prediction"] == values.index(max(values))
    assert sample["correct"] == float(sample["prediction"] == sample["target"])


def test_the_same_seed_takes_the_same_documents_and_another_seed_others(subject):
    def taken(limit, seed):
        return list(evaluate(subject, "agreement", limit=limit, seed=seed).samples["doc_id"])

    assert taken(5, 0) == taken(5, 0) != taken(5, 1)
    assert set(taken(5, 0)) < set(taken(8, 0))


def test_few_shot_examples_stand_before_the_question_and_leave_it_out(subject):
    sample = evaluate(subject, "intents", limit=3, num_fewshot=2).samples.iloc[0]
    assert sample["input"].count("Request:") == 3
    question = sample["input"].rsplit("Request:", 1)[1]
    assert sample["input"].count(question) == 1


def test_a_result_compared_with_itself_differs_by_exactly_zero_with_p_one(subject):
    results = evaluate(subject, ["agreement", "passage"], limit=6)
    table = compare_results(results, results)
    assert list(table["task"]) == ["agreement", "passage"]
    assert np.all(table["difference"] == 0) and np.all(table[["p", "p_adjusted"]] == 1)
    shares, bits = (table.iloc[i] for i in range(2))
    # Tango's, where no pair of six differs: never of width 0.
    ends = 1.959964**2 / (6 + 1.959964**2)
    assert [shares["low"], shares["high"]] == pytest.approx([-ends, ends], abs=1e-6) and not shares[
        "reason"
    ]
    assert math.isnan(bits["low"]) and math.isnan(bits["high"]) and "too alike" in bits["reason"]
    values = {row.task: row.value for row in results.rows if row.headline}
    assert list(table["base"]) == pytest.approx([values["agreement"], values["passage"]])


def test_results_of_other_prompts_are_refused_by_name(subject):
    results = [evaluate(subject, "intents", limit=3, num_fewshot=shots) for shots in (None, 1)]
    with pytest.raises(WorkbenchError, match="intents: tiny was measured on data or prompts"):
        compare_results(*results)


def test_results_read_back_as_they_were_saved(subject, tmp_path):
    results = evaluate(subject, ["repeat", "passage"], limit=3)
    again = Results.read(results.save(tmp_path / "saved"))
    assert again.to_json() == results.to_json() and again.to_dict() == results.to_dict()
    assert again.samples.equals(results.samples)
    assert len(again.table()) == len(results.rows) == 3
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "results.json",
        "samples.parquet",
    ]


def test_missing_data_is_skipped_with_the_reason_and_the_rest_runs(subject):
    results = evaluate(subject, ["blimp", "agreement", "subject_verb"], limit=3)
    assert {row.task for row in results.rows} == {"agreement"}
    reasons = dict(results.skipped)
    assert "'blimp' in WORKBENCH_DATA" in reasons["blimp"] and "nyu-mll/blimp" in reasons["blimp"]
    assert "'subject_verb_agreement' in WORKBENCH_DATA" in reasons["subject_verb"]
    with pytest.raises(WorkbenchError, match="No task of 'blimp' could run"):
        evaluate(subject, "blimp")


def test_a_folder_of_data_is_read(subject, monkeypatch, tmp_path):
    row = {"context_options": ["the cat", "the dogs"], "continuation": "sat on the mat", "gold": 1}
    (tmp_path / "gauntlet").mkdir()
    (tmp_path / "gauntlet" / "winogrande.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    sample = evaluate(subject, "winogrande").samples.iloc[0]
    assert json.loads(sample["choices"]) == ["the cat sat on the mat", "the dogs sat on the mat"]
    assert sample["target"] == 1


def test_a_broken_suite_names_the_file_and_the_line(subject, tmp_path):
    broken = tmp_path / "mine.yaml"
    broken.write_text("name: mine\ntasks: [repeat\nversion: 1\n")
    with pytest.raises(WorkbenchError, match=r"mine\.yaml, line 3"):
        evaluate(subject, str(broken))
    broken.write_text("name: mine\ntask: [repeat]\n")
    with pytest.raises(WorkbenchError, match=r"mine\.yaml, line 2: unknown key 'task'"):
        evaluate(subject, str(broken))


def test_a_users_suite_is_listed_and_a_broken_one_does_not_hide_the_others(subject, tmp_path):
    folder = tmp_path / "home" / "suites"
    folder.mkdir(parents=True)
    (folder / "quick.yaml").write_text("name: quick\ndescription: two\ntasks: [repeat, ioi]\n")
    (folder / "bad.yaml").write_text("tasks: [\n")
    listed = suites()
    assert listed["quick"].tasks == ["repeat", "ioi"]
    assert "bad.yaml, line" in str(listed["bad"].problem)
    assert {"core", "language", "knowledge", "tasks", "responsible"} <= set(listed)
    with pytest.raises(WorkbenchError, match=r"bad\.yaml"):
        find_suite("bad")


def test_an_unknown_task_is_named_with_its_neighbours(subject):
    with pytest.raises(WorkbenchError, match="no task 'agreemnt'; did you mean agreement"):
        evaluate(subject, "agreemnt")


class Recorder(Tracker):
    """A tracker that remembers messages and stops after so many reports."""

    def __init__(self, folder, stop_after=10**9):
        self.folder = folder
        self.stop_after = stop_after
        self.messages = []

    def progress(self, fraction, message=""):
        self.messages.append((fraction, message))
        if len(self.messages) > self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture
def two_folders(subject, tmp_path):
    for name in ("base", "tuned"):
        subject.model.save_pretrained(tmp_path / name)
        subject.tokenizer.save_pretrained(tmp_path / name)
    return [str(tmp_path / "base"), str(tmp_path / "tuned")]


@pytest.mark.parametrize("stop_after", [3, 8, 14])
def test_a_job_that_was_stopped_ends_with_exactly_the_results_of_an_undisturbed_one(
    two_folders, tmp_path, monkeypatch, stop_after
):
    from workbench.benchmarks.engine import lm
    from workbench.benchmarks.run import run_job

    monkeypatch.setattr(lm, "GENERATION_BUDGET", 64)
    monkeypatch.setattr(lm, "TOKEN_BUDGET", 64)  # so that a task has several batches
    config = {"models": two_folders, "suite": "core", "limit": 3}
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt):
        run_job(config, Recorder(tmp_path / "a", stop_after=stop_after))
    resumed = Recorder(tmp_path / "a")
    summary = run_job(config, resumed)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "other home"))
    undisturbed = Recorder(tmp_path / "b")
    whole = run_job(config, undisturbed)
    json.dumps(summary, allow_nan=False)
    assert [m["rows"] for m in summary["models"].values()] == [
        m["rows"] for m in whole["models"].values()
    ]
    for name in ("base", "tuned"):
        one, other = (Results.read(tmp_path / run / name) for run in ("a", "b"))
        assert one.samples.equals(other.samples)
    assert list(summary["models"]) == ["base", "tuned"]
    assert {row["difference"] for row in summary["comparison"]} == {0.0}


def test_batches_that_a_stopped_run_has_scored_are_not_scored_again(subject, tmp_path, monkeypatch):
    from workbench.benchmarks.engine import lm
    from workbench.benchmarks.engine.cache import cache_of

    class Counting(lm.SubjectLM):
        """Counts the batches that it runs."""

        runs = 0

    def scorer(origin):
        counting = Counting(subject, token_budget=32, cache=cache_of(subject, origin))
        run = counting.scorer.run

        def counted(batch):
            counting.runs += 1
            return run(batch)

        monkeypatch.setattr(counting.scorer, "run", counted)
        return counting

    first = scorer("run-1")

    def stop(fraction):
        raise KeyboardInterrupt

    first.progress = stop
    with pytest.raises(KeyboardInterrupt):
        first.loglikelihood(instances(PAIRS))
    again = scorer("run-1")
    other = scorer("run-2")
    fresh = lm.SubjectLM(subject, token_budget=32)
    expected = fresh.loglikelihood(instances(PAIRS))
    assert (
        again.loglikelihood(instances(PAIRS)) == expected == other.loglikelihood(instances(PAIRS))
    )
    assert (first.runs, other.runs) == (1, 0) and again.runs > 0
    before = again.runs
    with torch.no_grad():
        subject.model.get_input_embeddings().weight.add_(1e-3)
    assert scorer("run-3").loglikelihood(instances(PAIRS)) != expected and again.runs == before


def test_samples_keep_their_columns_when_there_are_none():
    assert list(sample_frame([]).columns)[:3] == ["task", "doc_id", "metric"]


def test_a_task_is_asked_in_other_ways_as_tasks_of_their_own(subject):
    results = evaluate(
        subject,
        ["intents", "passage"],
        limit=3,
        variants=["shots=2", "prompt=instructed", "prompt=next line"],
    )
    prompts = {task: part["input"].iloc[0] for task, part in results.samples.groupby("task")}
    assert (
        prompts["intents@shots=2"].count("Request:") == 3
        and prompts["intents"].count("Request:") == 1
    )
    assert (
        prompts["intents@prompt=instructed"]
        == "Answer as well as you can.\n\n" + prompts["intents"]
    )
    rows = results.samples.query("task == 'intents@prompt=next line'")
    assert all(choice.startswith("\n") for choice in json.loads(rows["choices"].iloc[0]))
    assert dict(results.skipped)["passage@prompt=instructed"] == "passage has no prompt to change."
    assert len(set(results.config["data"].values())) == len(results.config["data"])
    with pytest.raises(WorkbenchError, match="is no way to ask"):
        evaluate(subject, "intents", variants=["prompt=rude"])


@pytest.mark.skipif(not os.environ.get("WORKBENCH_DATA"), reason="needs WORKBENCH_DATA")
@pytest.mark.parametrize("name", ["reasoning", "responsible", "tasks"])
def test_questions_from_a_folder_of_data_are_scored(tokenizer, monkeypatch, tmp_path, name):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    subject = tiny_subject("tiny", make("gpt2", 256), tokenizer, 256)
    results = evaluate(subject, name, limit=2)
    assert not results.skipped and {row.task for row in results.rows} == set(suites()[name].tasks)
    assert all(row.n == 2 for row in results.rows if row.headline)
