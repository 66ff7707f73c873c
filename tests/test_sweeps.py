"""Sweeps: every cell is done once, by whatever worker is alive, and the table is the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import workbench as wb
from tests.postgres_server import programs, server
from workbench.cli.app import app
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.sweeps import Plan
from workbench.sweeps.sweep import begin, carry_out, go_on, result_of
from workbench.sweeps.work import ATTEMPTS, work

RECIPE = """
title = "small"
[model]
n_ctx = 16
n_layers = 1
n_heads = 2
d_model = 16
[tokenizer]
kind = "char"
[corpus]
sources = ["generated"]
validation = 0.1
[train]
steps = {steps}
batch_size = 2
eval_every = {steps}
checkpoint_every = 20
precision = "no"
"""
VARIED = {"train.lr": [1e-3, 1e-2], "train.seed": [0, 1]}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORKBENCH_STORE", raising=False)
    return tmp_path


def plan_of(home: Path, steps: int = 3, vary: dict | None = None) -> Plan:
    recipe = home / "small.toml"
    recipe.write_text(RECIPE.format(steps=steps))
    values = {"title": "rates", "recipe": str(recipe), "vary": vary or VARIED}
    return Plan.from_dict(values)


def numbers(sweep) -> pd.DataFrame:
    """What a sweep measured, without the names of its runs."""
    return sweep.to_frame().drop(columns=["run"]).reset_index(drop=True)


def test_every_combination_is_a_run_and_a_row(home):
    sweep = wb.sweep(plan_of(home))
    table: Any = sweep.to_frame()
    assert [tuple(row) for row in table[["train.lr", "train.seed"]].to_numpy().tolist()] == [
        (1e-3, 0),
        (1e-3, 1),
        (1e-2, 0),
        (1e-2, 1),
    ]
    assert set(table["status"]) == {"done"} and table["run"].nunique() == 4
    store = Store()
    for row in sweep.rows:
        run = store.get(row["run"])
        assert run.parent == sweep.run and run.result is not None
        assert row["value"] == run.result["validation_loss"]
        assert run.config["train"]["lr"] == row["train.lr"]
    assert store.get(sweep.run).status == "done"
    assert "4 done" in sweep.headline()


def test_processes_beside_this_one_give_the_same_table(home):
    alone = wb.sweep(plan_of(home))
    shared = wb.sweep(plan_of(home), on="local", workers=2)
    pd.testing.assert_frame_equal(numbers(alone), numbers(shared))


def killed_once(store: Store, sweep_id: str) -> str:
    """Kill the worker of the first cell that has a checkpoint; the cell's id."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        for cell in store.children(sweep_id):
            if cell.status == "running" and cell.checkpoints and cell.pid != os.getpid():
                os.kill(cell.pid, signal.SIGKILL)
                return cell.id
        time.sleep(0.02)
    raise AssertionError("no cell has written a checkpoint")


def test_the_cell_of_a_killed_worker_is_taken_up_by_another(home):
    alone = wb.sweep(plan_of(home, steps=60, vary={"train.seed": [0, 1, 2]}))
    store = Store()
    plan = plan_of(home, steps=60, vary={"train.seed": [0, 1, 2]})
    run = begin(plan, store)
    code = f"from workbench.store import Store; from workbench.sweeps.work import work; \
work({run.id!r}, Store())"
    workers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    cell = killed_once(store, run.id)
    codes = sorted(worker.wait(timeout=300) for worker in workers)
    assert codes == [-signal.SIGKILL, 0]
    assert store.attempts(cell) == 2
    shared = result_of(run.id, store)
    pd.testing.assert_frame_equal(numbers(alone), numbers(shared))
    for one in store.children(run.id):
        logged = store.metrics(one.id)
        steps = logged.loc[logged["name"] == "loss", "step"].tolist()
        assert steps == list(range(1, 61))  # no step is lost or there twice


def test_a_cell_that_kills_its_workers_fails_and_the_others_go_on(home):
    store = Store()
    run = begin(plan_of(home, vary={"train.seed": [0, 1]}), store)
    first = store.children(run.id)[0]
    for _ in range(ATTEMPTS):
        code = f"import os; from workbench.store import Store; s = Store(); \
assert s.claim({first.id!r}); os._exit(9)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 9
        store.reconcile()
    assert work(run.id, store) == 1
    statuses = [cell.status for cell in store.children(run.id)]
    assert statuses == ["failed", "done"]
    assert f"died {ATTEMPTS} times" in result_of(run.id, store).rows[0]["reason"]
    again = carry_out(go_on(run.id, store), store)
    assert {row["status"] for row in again.rows} == {"done"}


def test_a_cell_is_claimed_by_one_of_many(home):
    store = Store()
    run = begin(plan_of(home, vary={"train.seed": [0]}), store)
    (cell,) = store.children(run.id)
    code = f"from workbench.store import Store; print(Store().claim({cell.id!r}), flush=True); \
import time; time.sleep(8)"
    claims = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    lines = [claim.stdout.readline().strip() for claim in claims if claim.stdout]
    for claim in claims:
        claim.kill()
    assert sorted(lines) == ["False"] * 5 + ["True"]


def test_models_on_suites_have_their_scores_with_intervals(home, tmp_path):
    run = wb.sweep(plan_of(home, vary={"train.seed": [0]})).rows[0]["run"]
    values = {"title": "scores", "models": [f"run:{run}"], "suites": ["repeat"], "limit": 10}
    sweep = wb.sweep(Plan.from_dict(values))
    (row, *_) = sweep.rows
    alone = wb.evaluate(f"run:{run}", "repeat", limit=10)
    assert row["status"] == "done" and row["suite"] == "repeat"
    assert row["value"] == alone.rows[0].value
    assert row["low"] <= row["value"] <= row["high"] and row["n"] == 10


@pytest.mark.slow
def test_torchrun_processes_share_one_sweep(home):
    plan = plan_of(home)
    recipe = plan.recipe
    file = home / "plan.toml"
    file.write_text(
        f'title = "rates"\nrecipe = "{recipe}"\n[vary]\n"train.lr" = [1e-3, 1e-2]\n'
        '"train.seed" = [0, 1]\n'
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "workbench", "sweep", str(file), "--on", "torchrun"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("validation loss") == 4  # one table, by the first process
    store = Store()
    (run,) = store.list("sweep")
    pd.testing.assert_frame_equal(numbers(wb.sweep(plan)), numbers(result_of(run.id, store)))


@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_workers_meet_in_a_database_server(home, monkeypatch):
    alone = wb.sweep(plan_of(home))
    with server() as running:
        monkeypatch.setenv("WORKBENCH_STORE", running.url())
        shared = wb.sweep(plan_of(home), on="local", workers=2)
        assert len(Store().list(limit=100)) == 5
    pd.testing.assert_frame_equal(numbers(alone), numbers(shared))


FAULTS = [
    ({"recipe": "tiny"}, "no title"),
    ({"title": "x"}, "either recipe"),
    ({"title": "x", "recipe": "tiny"}, r"needs a table \[vary\]"),
    ({"title": "x", "models": ["a"]}, "needs suites"),
    ({"title": "x", "recipe": "tiny", "vary": {"train.lr": 3}}, "vary is .* a table of lists"),
    ({"title": "x", "recipe": "tiny", "vary": {"train.lr": []}}, "vary is .* a table of lists"),
    ({"title": "x", "steps": 3}, "does not know steps"),
    ({"title": "x", "models": "a", "suites": ["core"]}, "models is 'a'"),
    ({"title": "x", "models": ["a"], "suites": ["core"], "limit": True}, "limit is True"),
]


@pytest.mark.quick
@pytest.mark.parametrize(("values", "words"), FAULTS)
def test_a_plan_that_is_none_is_refused(values, words):
    with pytest.raises(WorkbenchError, match=words):
        Plan.from_dict(values)


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ({"train.learning": [1.0]}, "does not know learning"),
        ({"train.lr": [-1.0]}, r"\[train\] lr is -1.0"),
        ({"kind.x": [1]}, "kind of a recipe is no table"),
        ({"train.seed": list(range(40)), "train.lr": [1e-3] * 40}, "1,600 cells"),
    ],
)
def test_a_cell_that_cannot_be_is_refused_before_anything_is_recorded(home, vary, words):
    with pytest.raises(WorkbenchError, match=words):
        wb.sweep(plan_of(home, vary=vary))
    assert Store().list() == []


def test_a_background_without_a_cluster_is_refused_before_anything_is_recorded(home):
    file = home / "plan.toml"
    file.write_text('title = "x"\nmodels = ["shelf-base"]\nsuites = ["repeat"]\n')
    with pytest.raises(WorkbenchError, match="--background goes with --on slurm"):
        CliRunner().invoke(app, ["sweep", str(file), "--background"], catch_exceptions=False)
    assert Store().list() == []


def test_a_cluster_that_is_not_there_is_one_sentence(home, monkeypatch):
    monkeypatch.setenv("PATH", "")  # there may be a Slurm here
    with pytest.raises(WorkbenchError, match="Slurm does not answer here"):
        wb.sweep(plan_of(home), on="slurm")
    with pytest.raises(WorkbenchError, match="a worker at least, not 0"):
        wb.sweep(plan_of(home), on="local", workers=0)
    with pytest.raises(WorkbenchError, match="not on 'moon'"):
        wb.sweep(plan_of(home), on="moon")
