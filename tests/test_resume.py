"""Runs that are killed, run out of something, or are spread over processes, for real."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from typing import cast

import psutil
import pytest
import torch
from transformers import PreTrainedModel

import workbench as wb
from tests.test_training import recipe, text  # noqa: F401 (a fixture)
from workbench.errors import WorkbenchError
from workbench.store import Store, jobs
from workbench.training import checkpoints
from workbench.training.loop import Stepper, Trainee
from workbench.training.recipe import Optimisation, Recipe


def losses(run_id: str, name: str = "loss") -> dict[int, float]:
    return Store().metrics(run_id).query(f"name == '{name}'").set_index("step")["value"].to_dict()


def test_a_killed_run_goes_on_as_if_nothing_had_happened(text):  # noqa: F811
    """kill -9 in the background, then --resume: the same losses bit for bit, averaged weights and
    all.
    """
    words = {"steps": 240, "checkpoint_every": 20, "ema": 0.9, "seed": 3, "schedule": "cosine"}
    whole = wb.train(recipe(text, **words))
    killed = jobs.start("train", "killed", recipe(text, **words).to_dict())
    end = time.monotonic() + 300
    while not checkpoints.saved(killed.folder):
        assert time.monotonic() < end and Store().get(killed.id).active
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    while psutil.pid_exists(killed.pid):
        time.sleep(0.02)
    run = wb.resume(killed.id[:-1])
    assert run.id == killed.id and run.status == "done"
    for name in ("loss", "validation_loss", "grad_norm"):
        assert losses(run.id, name) == losses(whole.id, name)
    assert wb.load(f"run:{run.id}").hash == wb.load(f"run:{whole.id}").hash
    with pytest.raises(WorkbenchError, match="done; only a run that was cut short can be resumed"):
        wb.resume(run.id)


TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
ONE_NODE = ("--standalone", "--nproc-per-node", "2")


def two_nodes() -> tuple[str, ...]:
    """Options of torchrun for a node of two with a process each, which meet at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", where, "--rdzv-id", "both")
    return ("--nnodes", "2", "--nproc-per-node", "1", *meeting)


def on_two_processes(words: Recipe, folder, *, nodes: int = 1) -> dict:
    """What `workbench train` says of a recipe under torchrun on one node or two, with gloo."""
    values = words.to_dict()
    lines = ['title = "two"']
    for table in ("model", "tokenizer", "corpus", "train"):
        lines += [
            f"[{table}]",
            *(f"{k} = {json.dumps(v)}" for k, v in values[table].items() if v is not None),
        ]
    (folder / "two.toml").write_text("\n".join(lines))
    options = ONE_NODE if nodes == 1 else two_nodes()
    command = [*TORCHRUN, *options, "-m", "workbench", "train", str(folder / "two.toml"), "--json"]
    started = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        for _ in range(nodes)
    ]
    ended = [(node.communicate(timeout=400), node.returncode) for node in started]
    assert all(code == 0 for _, code in ended), [output[1][-2000:] for output, _ in ended]
    (printed,) = [
        output[0] for output, _ in ended if output[0].strip()
    ]  # by the first process alone
    return json.loads(printed)[0]


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_train_like_one(text, tmp_path, sharded):  # noqa: F811
    """The same global batch, whole models (DDP) or shards (FSDP2): the same losses to 1e-4 after 20
    steps, one run.
    """
    one = wb.train(recipe(text, steps=20))
    result = on_two_processes(recipe(text, steps=20, sharded=sharded), tmp_path)
    assert result["processes"] == 2
    here = losses(one.id)
    there = losses(result["run"])
    assert here.keys() == there.keys() and max(abs(here[s] - there[s]) for s in here) < 1e-4
    assert one.result is not None
    assert result["validation_loss"] == pytest.approx(one.result["validation_loss"], abs=1e-4)
    mine, theirs = (wb.load(f"run:{run}") for run in (one.id, result["run"]))
    ids = mine.encode("The cat number 7 sat on mat number 8.")
    # Read back whole from the checkpoint.
    assert torch.allclose(mine.model(ids).logits, theirs.model(ids).logits, atol=1e-2)
    old, new = (
        checkpoints.state(Store().get(run).checkpoints[20]) for run in (one.id, result["run"])
    )
    moments = [s["optimizers"][1]["state"][0]["momentum"] for s in (old, new)]
    assert torch.allclose(*moments, atol=1e-5)  # so that either can be resumed as the other


def test_two_nodes_train_like_one_process(text, tmp_path):  # noqa: F811
    """Two launches that know each other by an address only, as on two machines."""
    one = wb.train(recipe(text, steps=20))
    result = on_two_processes(recipe(text, steps=20), tmp_path, nodes=2)
    assert result["processes"] == 2
    here = losses(one.id)
    there = losses(result["run"])
    assert here.keys() == there.keys() and max(abs(here[s] - there[s]) for s in here) < 1e-4


def test_checkpoints_are_kept_by_policy(text):  # noqa: F811
    run = wb.train(recipe(text, steps=32, checkpoint_every=4, eval_every=4, keep=2, series=3))
    steps = [checkpoints.step_of(p) for p in checkpoints.saved(run.folder)]
    losses_at = losses(run.id, "validation_loss")
    best = min(losses_at, key=losses_at.__getitem__)
    assert set(steps) >= {1, 6, 28, 32, best} and len(steps) <= 6
    assert [p.parent.name for p in sorted(run.folder.rglob("training_state.pt"))] == [
        "step-0000028",
        "step-0000032",
    ]
    facts = checkpoints.facts(checkpoints.saved(run.folder)[-1])
    assert facts == {"step": 32, "tokens": 32 * 8 * 32, "validation_loss": losses_at[32]}


def test_a_full_disk_leaves_the_last_checkpoint_whole(text):  # noqa: F811
    store = Store()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = wb.train(recipe(text, steps=10))
    before = wb.load(f"run:{run.id}").hash
    from workbench.subjects.save import save

    subject = wb.load(f"run:{run.id}")
    for size, also in (
        (20_000, None),
        (500_000, lambda part: torch.save(torch.zeros(10**6), part / "state.pt")),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(
                WorkbenchError, match=r"could not be written .*nothing older was lost"
            ):
                save(checkpoints.saved(run.folder)[-1], subject.model, subject.tokenizer, also=also)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert wb.load(f"run:{run.id}").hash == before and store.get(run.id).status == "done"


class Narrow(torch.nn.Module):
    """A model on a device with room for so many rows."""

    def __init__(self, model, rows: int):
        super().__init__()
        self.inner = model
        self.rows = rows
        self.config = model.config

    def forward(self, ids, **more):
        if len(ids) > self.rows:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return self.inner(ids, **more)


def narrow(model, rows: int) -> PreTrainedModel:
    """A `Narrow` in its model's place."""
    return cast("PreTrainedModel", Narrow(model, rows))


def test_too_little_memory_is_met_by_smaller_parts_with_the_same_result(tiny):
    ids = torch.randint(0, tiny.card.d_vocab, (8, 17), generator=torch.Generator().manual_seed(0))
    batch = (ids[:, :-1], ids[:, 1:])
    outcomes = []
    start = {k: v.clone() for k, v in tiny.model.state_dict().items()}
    for rows, parts in ((8, 1), (2, 0)):
        tiny.model.load_state_dict(start)
        tiny.model.requires_grad_(True)
        settings = Optimisation(accumulate=parts, precision="no", optimizer="adamw")
        stepper = Stepper(Trainee(narrow(tiny.model, rows), tiny.tokenizer), settings)
        loss, norm = stepper.step(batch, 0)
        outcomes.append((float(loss), float(norm)))
    tiny.model.load_state_dict(start)
    assert stepper.parts == 4 and outcomes[0] == pytest.approx(outcomes[1], rel=1e-5)
    stepper = Stepper(
        Trainee(narrow(tiny.model, 2), tiny.tokenizer),
        Optimisation(precision="no", optimizer="adamw"),
    )
    with pytest.raises(
        WorkbenchError, match=r"Out of memory with 8 rows at a time; set accumulate = 2"
    ):
        stepper.step(batch, 0)


def test_a_diverging_run_stops_and_names_the_step(text):  # noqa: F811
    with pytest.raises(WorkbenchError, match=r"The loss became (nan|inf) at step \d+; lower lr"):
        wb.train(recipe(text, lr=1e30, optimizer="adamw", steps=40, clip=1e30))
    run = Store().list()[0]
    assert run.status == "failed" and "lower lr" in str(run.error)


def test_a_dry_run_measures_and_leaves_no_run(text):  # noqa: F811
    from workbench.training.cost import cost

    runs = len(Store().list())
    estimate = cost(recipe(text))
    assert (
        estimate.tokens == 30 * 8 * 32
        and estimate.parameters == estimate.trained_parameters > 10_000
    )
    assert (
        estimate.flops > 6 * 300 * 32 * estimate.tokens
        and 0 < estimate.mfu < 2
        and estimate.memory_gb > 0.1
    )
    assert estimate.seconds >= 30 * estimate.seconds_a_step[0] and len(Store().list()) == runs


def test_a_study_changes_nothing_but_the_encoding_and_goes_on_where_it_was_cut(text):  # noqa: F811
    from workbench.subjects.positions import ENCODINGS
    from workbench.training.study import run_recipe

    whole = wb.train_encodings(recipe(text), steps=3, eval_every=3)
    assert whole.result is not None
    assert set(whole.result["runs"]) == set(ENCODINGS)
    assert set(whole.result["validation_loss"]) == set(ENCODINGS)
    subjects = {name: wb.load(f"run:{i}") for name, i in whole.result["runs"].items()}
    assert all(s.card.positions == name and s.card.n_layers == 2 for name, s in subjects.items())
    store = Store()
    with store.record("study", "again", {}) as tracker:
        values = recipe(text, steps=3, eval_every=3).to_dict()
        cut = {**values, "model": {**values["model"], "positions": "learned"}}
        first = store.create("train", "learned", cut, tracker.run_id)
        store.finish(first.id, "interrupted")
        again = run_recipe(values, tracker)
    assert (
        again["validation_loss"] == whole.result["validation_loss"]
        and again["runs"]["learned"] == first.id
    )
