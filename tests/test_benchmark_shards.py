"""Evaluation on several processes, a large task in little memory, and a cache of answers that stays
bounded.
"""

import json
import os
import subprocess
import sys
from random import Random

import numpy as np
import psutil
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.test_benchmarks import instances, make, tiny_subject, tokenizer  # noqa: F401
from workbench.benchmarks import Results
from workbench.benchmarks.documents.user_tasks import trusting
from workbench.benchmarks.engine.lm import SubjectLM
from workbench.benchmarks.run import run_job
from workbench.store.answers import Answers
from workbench.store.followers import Silent
from workbench.subjects.modules import device_of

FREE = """
task: free
custom_dataset: !function workbench.benchmarks.documents.sources.load
dataset_kwargs: {source: agreement}
test_split: test
output_type: generate_until
num_fewshot: 0
doc_to_text: query
doc_to_target: "{{choices[gold]}}"
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 6}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
SUITE = "name: shared\ntasks: [intents, passage, free]\n"


@pytest.fixture
def folder(tokenizer, monkeypatch, tmp_path):  # noqa: F811
    home = tmp_path / "home"
    monkeypatch.setenv("WORKBENCH_HOME", str(home))
    (home / "tasks").mkdir(parents=True)
    (home / "tasks" / "free.yaml").write_text(FREE)
    (tmp_path / "shared.yaml").write_text(SUITE)
    make("gpt2", 256).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path


def test_two_processes_score_like_one(folder):
    """torchrun with gloo: the same rows and samples to the last bit, one run in the store."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command += [
        "-m",
        "workbench",
        "eval",
        str(folder / "model"),
        "--suite",
        str(folder / "shared.yaml"),
        "--trust-tasks",
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [*command, "--limit", "12", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    two = json.loads(done.stdout)["models"]["model"]
    (folder / "home" / "answers.sqlite").unlink()
    (folder / "one").mkdir()
    config = {"models": [str(folder / "model")], "suite": str(folder / "shared.yaml"), "limit": 12}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the two have: another number may round otherwise
    try:
        with trusting(True):  # the task that is made up here names our own loader
            one = run_job(config, Silent(folder / "one"))["models"]["model"]
    finally:
        torch.set_num_threads(threads)
    # NaN, where there is no interval, on both sides.
    np.testing.assert_equal(two["rows"], one["rows"])
    assert {row["task"] for row in one["rows"]} == {"intents", "passage", "free"}
    assert Results.read(two["folder"]).samples.equals(Results.read(one["folder"]).samples)


def test_a_task_of_many_requests_holds_no_logits(tokenizer):  # noqa: F811
    """Held, the logits of their more than 20,000 different beginnings would take 650 MB."""
    config = GPT2Config(
        vocab_size=8192,
        n_positions=32,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    lm = SubjectLM(tiny_subject("tiny", GPT2LMHeadModel(config).eval(), tokenizer, 32))
    draw = Random(0)
    texts = ["".join(draw.choices("abcdefghij", k=9)) for _ in range(4000)]
    assert len({text[:end] for text in texts for end in range(2, 9)}) > 20_000
    requests = [(text[:2], text[2:]) for text in texts]
    memory = psutil.Process().memory_info
    lm.loglikelihood(instances(requests[:64]))  # the program itself, and what is tried out first
    before = memory().rss
    seen = []
    lm.progress = lambda share: seen.append(memory().rss)
    assert len(lm.loglikelihood(instances(requests))) == 4000
    assert len(seen) > 10 and max(seen) - before < 200e6


def test_the_oldest_answers_make_room_for_new_ones(tmp_path):
    answers = Answers("model", origin="run", path=tmp_path / "answers.sqlite", most=300)
    keys = [answers.key(number) for number in range(3000)]
    sizes = []
    for start in range(0, 3000, 100):
        answers.put((key, [float(start), False]) for key in keys[start : start + 100])
        answers._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes.append((tmp_path / "answers.sqlite").stat().st_size)
    assert list(answers.get(keys)) and set(answers.get(keys)) == set(keys[-300:])
    assert max(sizes) < 1.5 * sizes[4]  # the file stopped growing soon after it was full
    answers.put([(keys[-1], "another")])
    assert answers.get([keys[-1]])[keys[-1]] == ([2900.0, False], True)  # the first answer stays
    answers.close()


@pytest.mark.parametrize(
    ("rank", "wanted", "place"),
    [("", None, "cuda"), ("0", None, "cuda:0"), ("3", None, "cuda:1"), ("1", "cpu", "cpu")],
)
def test_each_process_of_a_launcher_has_a_gpu_of_its_own(monkeypatch, rank, wanted, place):
    """There is no GPU here: torch is told of two, and only asked where a model would go."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert device_of(wanted) == torch.device(place)
