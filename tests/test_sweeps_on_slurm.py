"""Sweeps on a real Slurm: workers are killed, queued again and preempted; the table is the same."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

import workbench as wb
from tests.slurm_cluster import Cluster, cluster, missing
from tests.test_sweeps import numbers, plan_of
from workbench.errors import WorkbenchError
from workbench.store import Run, Store
from workbench.store.run import UNENDED
from workbench.sweeps import result_of
from workbench.sweeps.slurm import Resources, options_of
from workbench.sweeps.submit import submit, wait
from workbench.sweeps.sweep import begin

needs_slurm = pytest.mark.skipif(
    bool(missing()), reason=f"Slurm is not installed (no {', '.join(missing())})"
)
STEPS = 200
SEEDS = {"train.seed": [0, 1]}
SMALL = Resources(minutes=30, cpus=1, memory_gb=1)


@pytest.fixture(scope="module")
def slurm():
    with cluster() as running:
        yield running


@pytest.fixture
def home(slurm: Cluster, tmp_path, monkeypatch) -> Path:
    """A home folder, from which Slurm's commands find the cluster, without a job."""
    monkeypatch.setenv("SLURM_CONF", str(slurm.conf))
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORKBENCH_STORE", raising=False)
    slurm.ask("scancel", "--full", "--partition=main")
    return tmp_path


def until(reached: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What is true at last."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := reached():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def at_work(store: Store, sweep_id: str, but: str = "") -> Run | None:
    """A cell that a worker is in the middle of: it has a checkpoint, and more is to come."""
    for cell in store.children(sweep_id):
        if cell.id != but and cell.status == "running" and cell.checkpoints:
            return cell
    return None


def job_of(cell: Run) -> str:
    """The id of the job whose worker has a cell."""
    return psutil.Process(cell.pid).environ()["SLURM_JOB_ID"]


def write_plan(home: Path) -> str:
    """A plan in a file, whose cells take a moment."""
    recipe = plan_of(home, STEPS, SEEDS).recipe
    file = home / "plan.toml"
    file.write_text(f'title = "rates"\nrecipe = "{recipe}"\nvary = {{"train.seed" = [0, 1]}}\n')
    return str(file)


@needs_slurm
def test_a_sweep_outlives_a_killed_worker_and_one_whose_time_is_over(slurm, home, run):
    options = "--on slurm --workers 2 --cpus 1 --memory 1 --minutes 30 --partition main".split()
    started = run("sweep", write_plan(home), *options, "--sbatch", "comment=mine", "--background")
    assert started.returncode == 0, started.stderr
    store = Store()
    (sweep,) = store.list("sweep")
    described = slurm.ask("scontrol", "show", "job")
    for words in ("Comment=mine", "TimeLimit=00:30:00", "NumCPUs=1", "MinMemoryNode=1G"):
        assert words in described

    killed = until(lambda: at_work(store, sweep.id))
    os.kill(killed.pid, signal.SIGKILL)  # as the system does where memory runs out
    ended = until(lambda: at_work(store, sweep.id, but=killed.id))
    job = job_of(ended)
    slurm.ask("scancel", "--signal=USR2", job)  # as Slurm does before a worker's time is over
    until(lambda: store.get(ended.id).status == "interrupted", 10)
    until(lambda: "Restarts=1" in slurm.ask("scontrol", "show", "job", job), 30)
    until(lambda: not any(cell.status in UNENDED for cell in store.children(sweep.id)))

    assert run("sweep", "--result", sweep.id).stdout.count("validation loss") == 2
    assert store.attempts(killed.id) == 2
    assert store.attempts(ended.id) == 1  # it was not to blame
    pd.testing.assert_frame_equal(
        numbers(result_of(sweep.id, store)), numbers(wb.sweep(plan_of(home, STEPS, SEEDS)))
    )
    for cell in store.children(sweep.id):
        logged: Any = store.metrics(cell.id)
        steps = logged.loc[logged["name"] == "loss", "step"].tolist()
        assert steps == list(range(1, STEPS + 1))  # no step is lost or there twice


@needs_slurm
def test_a_preempted_worker_is_queued_again_and_leaves_its_cell_to_others(slurm, home):
    store = Store()
    sweep = begin(plan_of(home, 20_000, SEEDS), store)
    jobs = submit(sweep.id, store, "slurm", 1, SMALL)
    cell = until(lambda: at_work(store, sweep.id))
    job = job_of(cell)
    urgent = ["srun", "--partition=urgent", "--cpus-per-task=2", "--mem=3G", "true"]
    assert subprocess.run(urgent, capture_output=True, timeout=50).returncode == 0
    assert store.get(cell.id).status == "interrupted"
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", job)
    assert not jobs.gone()
    jobs.cancel()
    until(lambda: not slurm.queue(), 30)


@needs_slurm
def test_workers_that_wait_are_withdrawn_and_cells_without_workers_are_told(slurm, home):
    store = Store()
    sweep = begin(plan_of(home), store)
    waiting = Resources(30, 1, memory_gb=1, options={"begin": "now+1hour"})
    jobs = submit(sweep.id, store, "slurm", 3, waiting)
    assert slurm.queue() == ["PENDING"] * 3
    jobs.withdraw()
    with pytest.raises(WorkbenchError, match=r"All 3 workers are gone and 4 of 4 cells are left"):
        wait(sweep.id, store, jobs)


@needs_slurm
@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"memory_gb": 500}, "Memory specification can not be satisfied"),
        ({"partition": "moon"}, "invalid partition specified: moon"),
        ({"options": {"moon": "full"}}, "unrecognized option '--moon=full'"),
    ],
)
def test_what_slurm_does_not_take_is_one_sentence(home, wanted, words):
    with pytest.raises(WorkbenchError, match=f"does not take the workers: .*{words}") as raised:
        wb.sweep(plan_of(home), on="slurm", resources=Resources(**wanted))
    (sweep,) = Store().list("sweep")
    assert f"--resume {sweep.id} --on slurm" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.quick
def test_options_of_sbatch_are_read_and_nonsense_is_refused():
    assert options_of(["account=mine", "--qos=low=er"]) == {"account": "mine", "qos": "low=er"}
    for word in ("account", "=mine", "account="):
        with pytest.raises(WorkbenchError, match="--sbatch takes NAME=VALUE"):
            options_of([word])


@pytest.mark.quick
def test_a_worker_whose_time_would_be_over_as_it_begins_is_refused():
    with pytest.raises(WorkbenchError, match="needs 5 minutes at least, not 2"):
        Resources(minutes=2)
