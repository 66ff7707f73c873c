"""Costs before a start, what runs now, and this machine's figures, against what shares no code."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import workbench as wb
from workbench.budget import recipes
from workbench.budget.block import LEAST, moving
from workbench.budget.free import free
from workbench.budget.gpus import GPUS
from workbench.budget.machine import WIDTHS, Machine
from workbench.budget.patching import of_map
from workbench.budget.recipes import of_recipe, planned
from workbench.budget.work import Work, size_of
from workbench.errors import WorkbenchError
from workbench.speed.costs import unasked
from workbench.store import Store, jobs
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
from workbench.training import Recipe

SHAPES = [
    {"n_layers": 2, "n_heads": 4, "d_model": 64, "n_ctx": 32, "mlp": "gelu"},
    {"n_layers": 3, "n_heads": 2, "d_model": 48, "n_ctx": 64, "mlp": "swiglu", "d_mlp": 96},
    {"n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "d_model": 32, "n_ctx": 16, "mlp": "relu2"},
    {"n_layers": 2, "n_heads": 2, "d_model": 32, "n_ctx": 16, "tie_word_embeddings": False},
]
FIGURES = Machine(
    processor="pretended",
    cores=2,
    threads=2,
    memory_gb=16.0,
    widths=[64, 1024],
    fp32_gflops=[10.0, 100.0],
    bf16_gflops=[20.0, 400.0],
    bandwidth_gbs=20.0,
    block_gbs=10.0,
    call_us=2.0,
    call_learned_us=20.0,
    disk_mbs=100.0,
    gpu="",
    gpu_memory_gb=0.0,
    measured=0.0,
    seconds=1.0,
    load=0.0,
)


def counted(shape: dict[str, Any], *, learns: bool) -> float:
    """FLOPs that torch itself counts in a batch of two rows, attention's products not.

    The formula also counts the norms' weights, less than a hundredth.
    """
    model: Any = WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**shape, d_vocab=97))
    ids = torch.arange(2 * shape["n_ctx"]).reshape(2, -1) % 97
    with FlopCounterMode(display=False) as counter:
        logits = model(ids).logits
        if learns:
            logits.float().logsumexp(-1).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    return float(sum(n for op, n in counts.items() if "attention" not in str(op)))


@pytest.mark.quick
@pytest.mark.parametrize("shape", SHAPES)
def test_operations_of_a_batch_are_those_that_torch_counts(shape):
    size = planned(shape, 97)
    n_ctx = shape["n_ctx"]
    forward = 2 * n_ctx * size.forward
    assert forward == pytest.approx(counted(shape, learns=False), rel=0.01)
    learned = size.learning(2, n_ctx).flops - 3 * 2 * n_ctx * size.attention * n_ctx
    assert learned == pytest.approx(counted(shape, learns=True), rel=0.01)


@pytest.mark.quick
@pytest.mark.parametrize("shape", SHAPES)
def test_a_planned_model_has_the_size_of_a_made_one(shape):
    model = WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**shape, d_vocab=97))
    assert planned(shape, 97) == size_of(model)
    assert planned(shape, 97).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.quick
def test_seconds_are_the_sum_worked_by_hand():
    work = Work(flops=2e9, moved=1e9, calls=1000, learned=500, width=1024)
    by_hand = 2e9 / 100e9 + 1e9 / 10e9 + 500 * 2e-6 + 500 * 20e-6
    assert work.seconds_on(FIGURES) == pytest.approx(by_hand)
    # Half-way between 64 and 1024 by their logarithms lies 256: the geometric mean of the rates.
    assert FIGURES.gflops(256) == pytest.approx(1000**0.5)
    assert (work * 3 + work).flops == 8e9 and (work * 3).memory_gb == work.memory_gb


@pytest.mark.quick
@pytest.mark.parametrize("shape", SHAPES)
def test_a_measured_block_is_predicted_to_take_what_it_took(shape):
    """The bytes' rate is what is left of the time, so the sum over all three is the time again."""
    work = planned(shape, 97).learning(8, shape["n_ctx"])
    rate = FIGURES.gflops(work.width)
    rest = work.moved / FIGURES.block_gbs / 1e9
    seconds = work.flops / rate / 1e9 + rest + work.learned * FIGURES.call_learned_us / 1e6
    assert moving(seconds, work, rate, FIGURES.call_learned_us) == pytest.approx(FIGURES.block_gbs)
    assert work.seconds_on(FIGURES) == pytest.approx(seconds)
    # Products that were slower when they were measured alone leave no time: a share is assumed.
    floor = work.moved / (LEAST * seconds) / 1e9
    assert moving(seconds, work, rate / 1e6, FIGURES.call_learned_us) == pytest.approx(floor)


@pytest.mark.quick
def test_a_figure_of_an_earlier_version_is_not_taken_for_a_block_s():
    """Kept files are read again: one with the rate of copying number by number is refused."""
    text = FIGURES.to_json()
    assert Machine.from_json(text) == FIGURES
    with pytest.raises(WorkbenchError):
        Machine.from_json(text.replace("block_gbs", "elementwise_gbs"))


@pytest.mark.quick
def test_a_bench_s_fine_tune_answers_one_question():
    """What `bench costs` predicts is what it measures: steps and an evaluation, few questions."""
    recipe = Recipe.read("finetune-intents")
    assert recipe.task["eval_items"] == 200
    assert unasked(recipe).task == {**recipe.task, "eval_items": 1}
    assert unasked(recipe).train == recipe.train


@pytest.mark.quick
def test_what_python_starts_is_not_shared_by_gpus():
    small = Work(flops=1e6, calls=1e5, learned=0.0)
    large = Work(flops=1e18)
    gpu = GPUS["H100"]
    assert small.seconds_on_gpus(gpu, 8) == small.seconds_on_gpus(gpu, 1) == pytest.approx(0.8)
    ratio = large.seconds_on_gpus(gpu, 1) / large.seconds_on_gpus(gpu, 8)
    assert ratio == pytest.approx(8 * 0.9)
    assert large.seconds_on_gpus(gpu, 1) == pytest.approx(1e18 / (989e12 * 0.4))


@pytest.mark.quick
def test_a_map_costs_what_its_cells_recompute():
    """Every patch by itself: its layer and those above, its position and those after."""
    size = planned(SHAPES[0], 97)
    tokens = 7
    block = (size.forward - 2 * size.d_model * size.d_vocab) / size.n_layers
    cells = 0.0
    for layer in range(size.n_layers):
        for pos in range(tokens):
            positions = range(pos, tokens)
            cells += (size.n_layers - layer) * len(positions) * block
            # A recomputed position attends to all that are before it, and to itself.
            cells += (size.n_layers - layer) * sum(
                (at + 1) * size.attention / size.n_layers for at in positions
            )
    plain = 4 * tokens * size.flops(tokens)
    assert of_map(size, tokens).work.flops == pytest.approx(cells + plain)


def test_the_machine_is_measured_once_and_kept(home):
    first = wb.machine(again=True)
    assert first.widths == list(WIDTHS) and first.threads == torch.get_num_threads()
    assert min(first.fp32_gflops) > 0 and first.block_gbs > 0
    assert first.call_learned_us > first.call_us > 0
    assert wb.machine() == first and wb.machine().measured == first.measured
    a = torch.ones(1024, 1024)
    b = torch.ones(1024, 4096)
    torch.mm(a, b)
    began = time.process_time()
    torch.mm(a, b)
    rate = 2 * 1024**2 * 4096 / (time.process_time() - began) * torch.get_num_threads() / 1e9
    assert 0.3 < rate / first.fp32_gflops[-1] < 3  # another measurement, on a shared machine


def test_every_recipe_and_a_plan_are_costed(home, tmp_path):
    costs = wb.costs("recipes", gpus=["h100", "RTX 4090"], n_gpus=2)
    frame = costs.to_frame()
    assert set(frame["on"]) == {"here", "2 x H100", "2 x RTX 4090"}
    known = frame[frame["seconds"].notna()]
    assert {"tiny", "shelf-base", "gpt2-124m"} <= set(known["what"])
    assert min(known["kwh"].tolist()) > 0 and min(known["memory_gb"].tolist()) > 0
    here = frame[(frame["on"] == "here") & frame["seconds"].notna()]
    assert here["kwh"].tolist() == pytest.approx([s * 65 / 3.6e6 for s in here["seconds"]])
    plan = tmp_path / "plan.toml"
    plan.write_text('title = "rates"\nrecipe = "tiny"\n[vary]\n"train.steps" = [100, 200]\n')
    first, second = wb.costs(plan).lines
    assert first.kind == "cell" and second.flops == pytest.approx(2 * (first.flops or 0), rel=0.05)
    assert type(costs).from_json(costs.to_json()).to_json() == costs.to_json()


def test_a_suite_costs_more_with_more_documents(home):
    few, many = (wb.costs("repeat", limit=n).lines[0] for n in (24, 48))
    assert few.kind == "suite" and many.flops == pytest.approx(2 * (few.flops or 0), rel=0.05)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: wb.costs("nothing like this"), "nothing called"),
        (lambda: wb.costs("tiny", gpus=["abacus"]), "no GPU 'abacus'"),
        (lambda: wb.costs("tiny", n_gpus=0), "n_gpus is 0"),
        (lambda: wb.costs("patching", tokens=1), "tokens is 1"),
        (lambda: wb.costs("core", limit=0), "limit=0"),
        (lambda: wb.costs("tiny", watts=-1.0), "watts"),
        (lambda: wb.usage(seconds=0.0), "seconds is 0"),
    ],
)
def test_what_cannot_be_costed_is_refused_in_a_sentence(home, call, words):
    with pytest.raises(WorkbenchError, match=words):
        call()


@pytest.mark.quick
def test_a_recipe_s_steps_are_in_its_cost():
    text = Recipe.read("tiny").to_dict()
    longer = Recipe.from_dict({**text, "train": {**text["train"], "steps": 600}})
    ratio = of_recipe(longer).work.flops / of_recipe(Recipe.read("tiny")).work.flops
    assert ratio == pytest.approx(2.0)


BUSY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "x = bytearray(150_000_000)\\nwhile True: pass"])
print(child.pid, flush=True)
while True: time.sleep(1)
"""


def test_a_run_s_use_is_that_of_its_whole_tree(home, monkeypatch):
    """A worker whose child computes: processes, cores and memory as psutil has them."""
    store = Store()
    worker = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    child = psutil.Process(int(worker.stdout.readline()))
    try:
        run = store.create("sleep", "a busy one", {})
        store.hand_over(run.id, worker.pid)
        time.sleep(1.0)
        used = sum(child.cpu_times()[:2])
        began = time.monotonic()
        looked = wb.usage(seconds=1.5)
        cores = (sum(child.cpu_times()[:2]) - used) / (time.monotonic() - began)
        (use,) = [one for one in looked.uses if one.run == run.id]
        memory = sum(p.memory_info().rss for p in (child, psutil.Process(worker.pid))) / 2**30
        assert use.processes == 2
        assert use.memory_gb == pytest.approx(memory, rel=0.1) and memory > 0.13
        assert use.cpu == pytest.approx(cores, abs=0.35)
        (own,) = [one for one in looked.uses if one.kind == "app"]
        assert own.pid == os.getpid()
        # Earlier tests may have left children of this process: they count, those of the run do not.
        here = psutil.Process()
        rest = {p.pid: p for p in (here, *here.children(recursive=True))}
        rest = [p for pid, p in rest.items() if pid not in (worker.pid, child.pid)]
        own_gb = sum(p.memory_info().rss for p in rest) / 2**30
        assert own.memory_gb == pytest.approx(own_gb, rel=0.2)
        assert looked.available_gb < looked.memory_gb
    finally:
        child.kill()
        worker.kill()
        worker.wait()


def test_nothing_is_said_of_a_run_that_is_over(home):
    store = Store()
    run = jobs.start("sleep", "short", {"seconds": 0.1, "obey": True}, store=store)
    for _ in range(200):
        if not store.get(run.id).active:
            break
        time.sleep(0.1)
    assert run.id not in [use.run for use in wb.usage(seconds=0.1).uses]


def test_a_model_that_is_held_is_named_and_memory_comes_back():
    subject = wb.load("shelf-base")
    looked = wb.usage(seconds=0.1)
    at = looked.models.index("shelf-base")
    parameters = sum(p.numel() for p in subject.model.parameters())
    assert looked.model_gb[at] == pytest.approx(4 * parameters / 2**30)
    held = [torch.ones(60_000_000)]
    freed = free(held.clear)
    assert freed.before_gb - freed.after_gb > 0.2


def test_the_commands_print_json(run):
    costs = json.loads(run("costs", "tiny", "--on", "h100", "--json").stdout)
    assert [line["on"] for line in costs["lines"]] == ["here", "H100"]
    assert json.loads(run("usage", "--json").stdout)["cores"] == os.cpu_count()


@pytest.mark.parametrize("what", ["recipes", "suites"])
def test_costs_ask_no_hub_for_data_that_are_not_here(what, monkeypatch):
    import datasets

    names = []
    for function in ("load_dataset", "load_dataset_builder", "get_dataset_config_names"):
        monkeypatch.setattr(datasets, function, lambda name, *more, **how: names.append(name))
    monkeypatch.delenv("WORKBENCH_DATA", raising=False)
    for counted in (recipes._asked, recipes._letters):
        counted.cache_clear()
    lines = wb.costs(what, limit=5).lines
    for counted in (recipes._asked, recipes._letters):
        counted.cache_clear()  # nor does this test's machine without data stay
    assert names == []
    missing = [line.note for line in lines if line.seconds is None]
    assert missing and all(missing)
