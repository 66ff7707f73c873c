"""Runs whose files are copied to an S3 server, and found there by a machine with another disk."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

import workbench as wb
from tests.postgres_server import programs
from tests.postgres_server import server as postgres
from tests.s3_server import Server, forget, server
from workbench.cli.app import app
from workbench.errors import WorkbenchError
from workbench.store import Run, Store, copier, copies, jobs
from workbench.store.tracker import Terminated
from workbench.training import checkpoints

WORDS = {
    "title": "copied",
    "model": {"n_ctx": 16, "n_layers": 1, "n_heads": 2, "d_model": 16},
    "tokenizer": {"kind": "char"},
    "corpus": {"sources": ["generated"], "validation": 0.1},
    "train": {
        **{"steps": 6, "batch_size": 2, "eval_every": 2, "checkpoint_every": 2},
        **{"keep": 3, "precision": "no", "ema": 0.9},
    },
}


@pytest.fixture(scope="module")
def s3():
    with server() as running:
        yield running


@pytest.fixture
def bucket(s3: Server, tmp_path, monkeypatch, request) -> str:
    """An empty bucket to which this test's runs are copied, with a database two machines share."""
    name = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    s3.new_bucket(name)
    monkeypatch.setenv("WORKBENCH_ARTEFACTS", f"s3://{name}/runs")
    monkeypatch.setenv("WORKBENCH_STORE", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    monkeypatch.setattr(copies, "FRESH", 0.0)
    monkeypatch.setattr(copier, "PAUSE", 0.05)
    move(monkeypatch, tmp_path / "a")
    return name


def move(monkeypatch, home: Path) -> None:
    """Go on as a machine whose disk holds this home folder."""
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("WORKBENCH_HOME", str(home))


def recipe(**train) -> wb.Recipe:
    return wb.Recipe.from_dict({**WORDS, "train": {**WORDS["train"], **train}})


def losses(run_id: str, name: str) -> dict[int, float]:
    return Store().metrics(run_id).query(f"name == '{name}'").set_index("step")["value"].to_dict()


def files_of(folder: Path) -> dict[str, str]:
    """The hash of every file of a run that is not hidden, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def at_url(s3: Server, bucket: str, run: Run) -> dict[str, str]:
    """The same as the manifests in the bucket have it, with each hash taken of the object."""
    listed = {}
    for key in s3.keys(bucket, f"runs/{run.id}/manifests/"):
        unit = Path(key).stem
        folder = "" if unit == "files" else f"{unit.replace('.', '/')}/"
        for name, file in json.loads(s3.read(bucket, key))["files"].items():
            content = s3.read(bucket, f"runs/{run.id}/objects/{file['sha256']}")
            listed[folder + name] = hashlib.sha256(content).hexdigest()
    return listed


def test_another_machine_finds_every_file_of_a_run(bucket, s3, tmp_path, monkeypatch):
    here = wb.train(recipe())
    assert here.status == "done" and here.result is not None
    assert here.result["artefacts"] == f"s3://{bucket}/runs/{here.id}"
    files = files_of(here.folder)
    assert at_url(s3, bucket, here) == files
    # No object is left of what was written on the way.
    assert len(s3.keys(bucket, f"runs/{here.id}/objects/")) == len(set(files.values()))
    weights = wb.load(f"run:{here.id}@2").hash

    move(monkeypatch, tmp_path / "b")
    there = Store().get(here.id)
    assert not there.folder.exists()
    assert wb.load(f"run:{here.id}@2").hash == weights
    assert list(there.checkpoints) == [2]  # what it needed, and no more
    assert wb.load(f"run:{here.id}").hash == wb.load(f"run:{here.id}@6").hash
    with pytest.raises(WorkbenchError, match=r"no checkpoint 3; it has 2, 4, 6"):
        wb.load(f"run:{here.id}@3")
    assert copies.fetch_run(there) == [2, 4, 6]
    assert files_of(there.folder) == files
    Store().delete(here.id)
    assert not s3.keys(bucket)


def test_what_the_recipe_does_not_keep_goes_away_there_too(bucket, s3, monkeypatch):
    monkeypatch.setattr(copier, "LOOK", 0.01)
    run = wb.train(recipe(steps=40, checkpoint_every=1, keep=2))
    assert at_url(s3, bucket, run) == files_of(run.folder)
    assert len(run.checkpoints) < 5


def damage(s3: Server, bucket: str, run: Run, how: str) -> None:
    """Spoil the copied weights of the last checkpoint, or what lists them."""
    manifest = f"runs/{run.id}/manifests/checkpoints.step-{LAST:07d}.json"
    file = json.loads(s3.read(bucket, manifest))["files"]["model.safetensors"]
    key = f"runs/{run.id}/objects/{file['sha256']}"
    content = s3.read(bucket, key)
    if how == "changed":
        s3.write(bucket, key, content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "cut":
        s3.write(bucket, key, content[:-1])
    elif how == "missing":
        s3.delete(bucket, key)
    elif how == "no manifest":
        s3.delete(bucket, manifest)
    elif how == "cut manifest":
        s3.write(bucket, manifest, s3.read(bucket, manifest)[:-20])
    else:
        outside = {"../../../escaped": file}
        s3.write(bucket, manifest, json.dumps({"files": outside}).encode())


LAST = 6
DAMAGES = {
    "changed": "is not what was written",
    "cut": "is not whole",
    "missing": "is missing",
    "no manifest": f"has no checkpoint {LAST}; it has 2, 4",
    "cut manifest": "cannot be read",
    "outside": "lists what no run writes",
}


def test_a_damaged_copy_is_refused_and_an_older_one_is_resumed(bucket, s3, tmp_path, monkeypatch):
    run = wb.train(recipe())
    weights = wb.load(f"run:{run.id}").hash
    logged = {name: losses(run.id, name) for name in ("loss", "validation_loss")}
    whole = {key: s3.read(bucket, key) for key in s3.keys(bucket)}
    store = Store()
    for how, words in DAMAGES.items():
        for key, content in whole.items():
            s3.write(bucket, key, content)
        damage(s3, bucket, run, how)
        move(monkeypatch, tmp_path / how)
        with pytest.raises(WorkbenchError, match=words) as raised:
            wb.load(f"run:{run.id}@{LAST}")
        assert "\n" not in str(raised.value)
        assert not store.get(run.id).checkpoints
        assert not list(tmp_path.rglob("escaped"))
        if how in ("changed", "no manifest"):
            # As if it had been killed before the last copy was whole.
            store.set(run.id, True, status="interrupted", result=None)
            again = wb.resume(run.id)
            assert again.status == "done"
            assert wb.load(f"run:{run.id}").hash == weights
            assert {name: losses(run.id, name) for name in logged} == logged
            assert at_url(s3, bucket, again) == files_of(again.folder)  # the damage is mended


def refusal(url: str, monkeypatch) -> str:
    """What a training says that is to be copied where it cannot; the run has failed at once."""
    monkeypatch.setenv("WORKBENCH_ARTEFACTS", url)
    with pytest.raises(WorkbenchError) as raised:
        wb.train(recipe())
    newest = Store().list(limit=1)[0]
    assert newest.status == "failed" and not newest.checkpoints
    assert "\n" not in str(raised.value) and "not-for-logs" not in str(raised.value)
    return str(raised.value)


REFUSED = {
    "s3://no-such-bucket/runs": "does not exist); make the bucket first",
    "gs://bucket/runs": 'pip install "gpt-workbench[gcs]"',
    "nowhere://bucket/runs": "give an address that fsspec knows",
    "sftp://me:not-for-logs@host/runs": "carries a password",
    "simplecache::s3://bucket/runs": "several addresses in one",
    "reference://bucket": "is not the address of a file or folder",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_place_that_cannot_be_written_to_is_told_before_work_begins(bucket, monkeypatch, url):
    assert REFUSED[url] in refusal(url, monkeypatch)


def test_the_folder_of_the_runs_is_no_place_for_their_copies(bucket, monkeypatch):
    own = os.environ["WORKBENCH_HOME"] + "/runs"
    assert "folder of the runs themselves" in refusal(own, monkeypatch)


@pytest.mark.parametrize("lack", ["keys", "server"])
def test_a_store_that_does_not_let_in_or_answer_is_told_with_the_mend(bucket, monkeypatch, lack):
    if lack == "keys":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    forget()
    try:
        words = refusal(f"s3://{bucket}/runs", monkeypatch)
    finally:
        forget()
    assert ("AWS_ACCESS_KEY_ID" if lack == "keys" else "check the network") in words


def test_a_run_whose_copy_fails_at_the_end_is_done_says_so_and_is_copied_later(bucket, s3):
    """The bucket goes away under way."""
    store = Store()
    with store.record("eval", "copied late", {}) as tracker:
        (tracker.folder / "results.json").write_text("{}")
        for key in s3.keys(bucket):
            s3.delete(bucket, key)
        s3.delete_bucket(bucket)
        tracker.result = {"acc": 0.5}
    run = store.get(tracker.run_id)
    assert run.status == "done" and run.result is not None and run.result["acc"] == 0.5
    assert "does not exist); make the bucket first" in run.result["not_copied"]
    s3.new_bucket(bucket)
    assert CliRunner().invoke(app, ["runs", "--copy", run.id]).exit_code == 0
    assert at_url(s3, bucket, run) == files_of(run.folder) != {}


def test_files_are_copied_to_a_folder_that_machines_share(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_ARTEFACTS", str(tmp_path / "shared"))
    monkeypatch.setenv("WORKBENCH_STORE", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    move(monkeypatch, tmp_path / "a")
    run = wb.train(recipe())
    weights = wb.load(f"run:{run.id}").hash
    move(monkeypatch, tmp_path / "b")
    assert wb.load(f"run:{run.id}").hash == weights
    assert not list((tmp_path / "shared").rglob("*.part"))


def test_the_same_line_begins_a_run_goes_on_with_it_and_finds_it_done(
    bucket, tmp_path, monkeypatch
):
    """As a job that is started again on another machine whenever its own is taken away."""
    toml = tmp_path / "recipe.toml"
    tables = {name: values for name, values in WORDS.items() if isinstance(values, dict)}
    lines = [
        f"[{name}]\n" + "\n".join(map(line, values.items())) for name, values in tables.items()
    ]
    toml.write_text("\n".join(['title = "copied"', *lines]))

    def start_machine(home: str) -> dict:
        move(monkeypatch, tmp_path / home)
        arguments = ["train", str(toml), "--once", "my-job", "--json"]
        ran = CliRunner().invoke(app, arguments)
        if ran.exit_code == 0:
            return json.loads(ran.stdout)[0]
        return {"code": ran.exit_code, "error": str(ran.exception)}

    with monkeypatch.context() as patch:
        # The machine is taken away once the fourth step is saved.
        write = checkpoints.write

        def taken_away(folder, step, *args, **named):
            write(folder, step, *args, **named)
            if step == 4:
                raise Terminated("taken away")

        patch.setattr(checkpoints, "write", taken_away)
        assert start_machine("a")["code"] == 143
    (run,) = Store().list()
    assert run.status == "interrupted" and run.tags == ("my-job",)
    again = start_machine("b")
    assert again["run"] == run.id and again["status"] == "done"
    assert sorted(losses(run.id, "loss")) == [*range(1, 7)]
    weights = wb.load(f"run:{run.id}").hash
    third = start_machine("c")
    assert third["run"] == run.id and len(Store().list()) == 1
    assert wb.load(f"run:{run.id}").hash == weights == wb.load(f"run:{wb.train(recipe()).id}").hash
    toml.write_text(toml.read_text().replace("steps = 6", "steps = 8"))
    assert "which has another recipe" in start_machine("d")["error"]


def line(item: tuple) -> str:
    return f"{item[0]} = {json.dumps(item[1])}"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_a_killed_run_goes_on_on_another_machine_as_if_nothing_had_happened(
    bucket, s3, tmp_path, monkeypatch
):
    """Two homes that share a PostgreSQL server and a bucket: SIGKILL in one, on in the other."""
    with postgres() as database:
        monkeypatch.setenv("WORKBENCH_STORE", database.new_database("shared"))
        words = {"steps": 200, "checkpoint_every": 25, "eval_every": 25, "schedule": "cosine"}
        whole = wb.train(recipe(**words))
        killed = jobs.start("train", "killed", recipe(**words, seed=0).to_dict())
        end = time.monotonic() + 400
        while not s3.keys(bucket, f"runs/{killed.id}/manifests/checkpoints"):
            assert time.monotonic() < end and Store().get(killed.id).active
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
        while psutil.pid_exists(killed.pid):
            time.sleep(0.02)
        killed = Store().get(killed.id)
        assert killed.status == "interrupted"
        reached = max(losses(killed.id, "loss"))
        assert reached < 200
        (tmp_path / "a" / "runs" / killed.id).rename(tmp_path / "disk-of-a")

        move(monkeypatch, tmp_path / "b")
        assert not Store().get(killed.id).folder.exists()
        jobs.resume(killed.id)
        while (run := Store().get(killed.id)).active:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert run.status == "done", run.error
        # It went on from a checkpoint, and did not begin anew.
        steps_here = {int(p.name[5:]) for p in (tmp_path / "b").rglob("step-*") if p.is_dir()}
        assert steps_here <= {*range(25, 201, 25)}
        for name in ("loss", "validation_loss", "grad_norm"):
            assert losses(run.id, name) == losses(whole.id, name)
        assert wb.load(f"run:{run.id}").hash == wb.load(f"run:{whole.id}").hash
        assert at_url(s3, bucket, run) == files_of(checkpoints.saved(run.folder)[-1].parents[1])
