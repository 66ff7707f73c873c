"""Runs whose newest checkpoint, or whose database, is damaged; and runs that are stopped from
outside.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import workbench as wb
from tests.test_resume import losses
from tests.test_training import recipe, text  # noqa: F401 (a fixture)
from workbench.errors import WorkbenchError
from workbench.store import Store, jobs
from workbench.training import checkpoints
from workbench.training.pretrain import run_recipe
from workbench.training.start import start


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "cut state": lambda newest: cut(newest / "training_state.pt"),
    "cut weights": lambda newest: cut(newest / "model.safetensors"),
    "one bit of the weights": lambda newest: flip(newest / "model.safetensors"),
    "no state": lambda newest: (newest / "training_state.pt").unlink(),
    "no config": lambda newest: (newest / "config.json").unlink(),
    "empty checksums": lambda newest: (newest / "checksums.json").write_text(""),
    "a stray folder": lambda newest: (newest.parent / "step-9999999").mkdir(),
    "a folder of another name": lambda newest: (newest.parent / "step-old").mkdir(),
}


@pytest.fixture(scope="module")
def halves(text, tmp_path_factory):  # noqa: F811
    """Losses of thirty steps in one go, and the folder of a run that was cut short after twenty."""
    whole = wb.train(recipe(text, decay=0.0))
    store = Store()
    with store.record("train", "first half", {}) as tracker:
        run_recipe(recipe(text, decay=0.0, steps=20).to_dict(), tracker)
    half = tmp_path_factory.mktemp("kept") / "half"
    shutil.copytree(store.get(tracker.run_id).folder, half)
    return losses(whole.id), half


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    text,  # noqa: F811
    halves,
    damage,
    caplog,
):
    """Whatever is spoilt, the run goes on from a whole checkpoint and its losses are those of an
    undisturbed one.
    """
    whole, half = halves
    store = Store()
    run = start(recipe(text, decay=0.0), store)
    store.finish(run.id, "interrupted")
    shutil.copytree(half, run.folder, dirs_exist_ok=True)
    DAMAGE[damage](run.folder / "checkpoints" / "step-0000020")
    done = wb.resume(run.id)
    assert done.status == "done"
    again = losses(run.id)
    first = 21 if damage == "a stray folder" or "another name" in damage else 11
    assert again == {step: loss for step, loss in whole.items() if step >= first}
    assert ("is damaged" in caplog.text) == ("another name" not in damage)


def test_a_run_without_a_whole_checkpoint_begins_anew(text, halves, caplog):  # noqa: F811
    whole, half = halves
    store = Store()
    run = start(recipe(text, decay=0.0), store)
    store.finish(run.id, "interrupted")
    shutil.copytree(half, run.folder, dirs_exist_ok=True)
    for folder in checkpoints.saved(run.folder):
        cut(folder / "model.safetensors")
    assert wb.resume(run.id).status == "done" and losses(run.id) == whole
    assert caplog.text.count("is damaged") == 2


@pytest.mark.parametrize("damage", ["header", "middle"])
def test_a_damaged_store_says_what_the_run_folders_hold(halves, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    store = Store()
    for number in range(40):
        store.create("train", f"run {number}", {"text": "x" * 4000})
    store._engine.dispose()
    shutil.copytree(halves[1], tmp_path / "runs" / "20260101-000000-0000")
    path = tmp_path / "store.sqlite"
    content = bytearray(path.read_bytes())
    place = slice(0, 100) if damage == "header" else slice(4096, len(content))
    content[place] = b"\xff" * (place.stop - place.start)
    path.write_bytes(bytes(content))
    with pytest.raises(
        WorkbenchError, match=r"is damaged .*\n.*20260101-000000-0000: checkpoints of steps 10, 20"
    ):
        Store().list()


def test_a_run_is_resumed_at_once_after_its_process_was_killed(text):  # noqa: F811
    run = jobs.start("sleep", "to be killed", {"seconds": 60})
    while Store().get(run.id).status != "running":
        time.sleep(0.02)
    os.kill(Store().get(run.id).pid, signal.SIGKILL)
    assert Store().reopen(run.id).status == "queued"
    Store().finish(run.id, "cancelled")


def test_only_a_training_run_is_resumed_as_one():
    store = Store()
    run = store.create("eval", "an evaluation", {"models": ["shelf-base"]})
    store.finish(run.id, "interrupted", error="cut")
    with pytest.raises(
        WorkbenchError, match=rf"of the kind eval, .* workbench eval --resume {run.id}"
    ):
        wb.resume(run.id)
    assert store.get(run.id) == run.__class__(
        **{**vars(store.get(run.id)), "status": "interrupted", "error": "cut"}
    )


def test_an_evaluation_is_resumed_from_the_command_line_and_what_it_scored_is_not_scored_again():
    from workbench.benchmarks import Results
    from workbench.benchmarks.run import run_job
    from workbench.cli.app import app

    store = Store()
    config = {"models": ["shelf-base"], "suite": ["repeat", "agreement"], "limit": 4}
    with store.record("eval", "whole", config) as tracker:
        tracker.result = whole = run_job(config, tracker)
    run = store.create("eval", "cut", config)
    folder = Results.read(whole["models"]["shelf-base"]["folder"]).save(run.folder / "shelf-base")
    before = (
        (folder / "results.json").stat().st_mtime_ns,
        json.loads((folder / "results.json").read_text())["rows"],
    )
    store.finish(run.id, "interrupted")
    done = CliRunner().invoke(app, ["eval", "--resume", run.id, "--json"])
    assert done.exit_code == 0, done.exception
    again = json.loads(done.stdout)
    assert again["run"] == run.id and again["models"]["shelf-base"]["rows"] == before[1]
    assert store.get(run.id).status == "done"


def hears_ctrl_c() -> None:
    """Listen to SIGINT even where the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_foreground_run_that_is_stopped_says_what_it_kept_and_how_to_go_on(
    text,  # noqa: F811
    tmp_path,
    number,
    code,
):
    (tmp_path / "long.toml").write_text(recipe(text, steps=100_000, eval_every=100_000).to_toml())
    home = tmp_path / "home"
    command = [sys.executable, "-m", "workbench", "train", str(tmp_path / "long.toml")]
    environment = {**os.environ, "WORKBENCH_HOME": str(home)}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=hears_ctrl_c,
    )
    end = time.monotonic() + 120
    try:
        while not list(home.glob("runs/*/checkpoints/step-*/checksums.json")):
            assert time.monotonic() < end and process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.send_signal(number)
        _, message = process.communicate(timeout=300)
    finally:
        process.kill()
    run = next((home / "runs").iterdir()).name
    assert process.returncode == code and "Traceback" not in message, message
    assert (
        "Kept is the checkpoint of step" in message and f"workbench train --resume {run}" in message
    )
