"""The run store: real SQLite files, real processes."""

import json
import math
import os
import sqlite3
import subprocess
import sys
import time

import pytest

from workbench.errors import WorkbenchError
from workbench.store import Stopped, Store

pytestmark = pytest.mark.quick

COUNT = 400


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_STORE", raising=False)
    return Store()


def python(code: str) -> "subprocess.Popen[str]":
    """A process of its own that runs a few lines against the same store."""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_new_run_is_queued_and_has_a_folder_and_knows_its_code(store, tmp_path):
    run = store.create(
        "eval", "first", {"limit": 3, "rate": math.nan, "data": tmp_path}, parent="other"
    )
    assert (run.status, run.active, run.progress, run.parent) == ("queued", True, 0.0, "other")
    assert run.folder == tmp_path / "runs" / run.id and run.folder.is_dir()
    assert (
        run.config["limit"] == 3
        and math.isnan(run.config["rate"])
        and run.config["data"] == str(tmp_path)
    )
    assert (
        run.pid == os.getpid() and "torch" in run.versions and "torch-nonsense" not in run.versions
    )
    assert store.get(run.id) == run


def test_record_marks_a_run_done_and_keeps_its_result(store):
    with store.record("eval", "t", {}) as tracker:
        assert store.get(tracker.run_id).status == "running"
        tracker.progress(0.25, "quarter")
        tracker.result = {"acc": 0.5, "nothing": math.nan}
    run = store.get(tracker.run_id)
    assert (run.status, run.progress, run.message, run.error) == ("done", 1.0, "quarter", None)
    assert run.result is not None and run.result["acc"] == 0.5 and math.isnan(run.result["nothing"])
    assert run.created <= run.started <= run.ended


def test_record_marks_a_failure_with_one_line_and_passes_it_on(store):
    with pytest.raises(ValueError), store.record("eval", "t", {}) as tracker:
        tracker.progress(0.5)
        raise ValueError("two\nlines")
    run = store.get(tracker.run_id)
    assert (run.status, run.error, run.progress) == ("failed", "ValueError: two lines", 0.5)
    assert "Traceback" in (run.folder / "log.txt").read_text()


def test_an_error_of_the_user_is_kept_as_it_is(store):
    with pytest.raises(WorkbenchError), store.record("eval", "t", {}) as tracker:
        raise WorkbenchError("no such suite")
    assert store.get(tracker.run_id).error == "no such suite"


def test_a_result_that_is_not_json_fails_the_run(store):
    with pytest.raises(TypeError), store.record("eval", "t", {}) as tracker:
        tracker.result = {"model": object()}
    assert store.get(tracker.run_id).status == "failed"


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped])
def test_record_marks_an_interruption_by_the_user_as_cancelled(store, error):
    with pytest.raises(error), store.record("eval", "t", {}) as tracker:
        raise error
    assert store.get(tracker.run_id).status == "cancelled"


def test_a_request_to_stop_reaches_progress_in_the_foreground(store):
    with pytest.raises(Stopped), store.record("eval", "t", {}) as tracker:
        tracker.progress(0.0)
        Store().ask_to_stop(tracker.run_id)
        for _ in range(100):
            tracker.progress(0.1)
            time.sleep(0.02)
    assert store.get(tracker.run_id).status == "cancelled"


def test_a_run_is_found_by_the_beginning_of_its_id(store):
    first = store.create("eval", "t", {})
    assert store.get(first.id[:-1]).id == first.id
    store.create("eval", "t", {})
    with pytest.raises(WorkbenchError, match="several runs begin with"):
        store.get(first.id[:2])
    for unknown in ("nonsense", "", "%"):
        with pytest.raises(WorkbenchError, match="there is no run"):
            store.get(unknown)


def test_runs_are_listed_newest_first_by_kind_and_up_to_a_limit(store):
    ids = [store.create(kind, "t", {}).id for kind in ("eval", "train", "eval")]
    assert sorted(ids) == ids
    assert [run.id for run in store.list()] == ids[::-1]
    assert [run.id for run in store.list("eval")] == [ids[2], ids[0]]
    assert [run.id for run in store.list(limit=1)] == [ids[2]]


def test_metrics_come_back_in_order_with_nan_and_infinity(store):
    with store.record("train", "t", {}) as tracker:
        before = time.time()
        tracker.log(1, loss=2.5, lr=1e-3)
        tracker.log(2, loss=math.nan, lr=math.inf)
    table = store.metrics(tracker.run_id)
    assert list(table.columns) == ["step", "name", "value", "time"]
    assert table.step.tolist() == [1, 1, 2, 2] and table.name.tolist() == ["loss", "lr"] * 2
    assert (
        table.value[:2].tolist() == [2.5, 1e-3]
        and math.isnan(table.value[2])
        and table.value[3] == math.inf
    )
    assert (table.time - before).abs().max() < 1
    assert store.metrics(store.create("train", "empty", {}).id).empty


def test_thousands_of_calls_are_cheap_and_the_last_values_stay(store):
    with store.record("train", "t", {}) as tracker:
        start = time.perf_counter()
        for step in range(5000):
            tracker.log(step, loss=float(step))
            tracker.progress(step / 10000, f"step {step}")
        assert time.perf_counter() - start < 1.0
        raised = store.get(tracker.run_id)
        tracker.progress(math.nan)
    run = store.get(tracker.run_id)
    assert raised.active and run.message == "step 4999"
    assert store.metrics(run.id).value.tolist() == [float(step) for step in range(5000)]


def test_a_metric_is_visible_within_a_second_though_nothing_follows(store):
    with store.record("train", "t", {}) as tracker:
        tracker.log(1, loss=1.0)
        time.sleep(0.8)
        tracker.log(2, loss=2.0)
        time.sleep(0.8)
        assert len(store.metrics(tracker.run_id)) == 2


def test_processes_that_write_at_once_lose_nothing(store):
    run = store.create("train", "t", {})
    code = (
        "from workbench.store import Store\n"
        f"tracker = Store().tracker({run.id!r})\n"
        f"for step in range({COUNT}):\n"
        "    tracker.log(step, loss=1.0)\n"
        "    tracker._write()\n"
        "tracker.close()\n"
    )
    assert [process.wait(20) for process in [python(code), python(code)]] == [0, 0]
    assert store.metrics(run.id).step.value_counts().tolist() == [2] * COUNT


def test_processes_that_open_a_new_store_at_once_get_ids_of_their_own(store, tmp_path):
    code = (
        "from workbench.store import Store\n"
        f"store = Store({str(tmp_path / 'fresh.sqlite')!r})\n"
        "print(*[store.create('eval', 't', {}).id for _ in range(20)])\n"
    )
    outputs = [process.communicate(timeout=20)[0] for process in [python(code) for _ in range(3)]]
    assert len({word for output in outputs for word in output.split()}) == 60


def test_a_run_whose_process_is_gone_is_interrupted(store):
    code = "from workbench.store import Store; print(Store().create('eval', 't', {}).id)"
    run_id = python(code).communicate(timeout=20)[0].strip()
    run = store.get(run_id)
    assert run.status == "interrupted" and run.error and run.ended


def test_a_silent_run_on_another_host_is_left_alone_for_ten_minutes(store, tmp_path):
    run = store.create("eval", "t", {})
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute(
            "UPDATE runs SET host = 'elsewhere', pid = 1, heartbeat = ?", [time.time() - 500]
        )
    assert store.get(run.id).status == "queued"
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("UPDATE runs SET heartbeat = ?", [time.time() - 700])
    assert store.get(run.id).status == "interrupted"


def test_delete_removes_row_metrics_and_folder_but_not_of_an_active_run(store):
    with store.record("train", "t", {}) as tracker:
        tracker.log(1, loss=1.0)
        (tracker.folder / "checkpoints").mkdir()
        with pytest.raises(WorkbenchError, match="cancel it"):
            store.delete(tracker.run_id)
    store.delete(tracker.run_id)
    assert store.list() == [] and not tracker.folder.exists()
    with pytest.raises(WorkbenchError):
        store.metrics(tracker.run_id)


def test_a_home_that_cannot_be_written_to_is_named_with_the_mend(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("WORKBENCH_HOME", str(home))
        with pytest.raises(WorkbenchError, match=r"cannot write to .*file.*set WORKBENCH_HOME"):
            Store()


@pytest.mark.parametrize(
    "url", ["{}/none/store.sqlite", "{}/text", "nonsense://x", "sqlite://", "a:b://"]
)
def test_an_unusable_database_is_refused_in_one_sentence(tmp_path, url, monkeypatch):
    # Without runs, which would be listed.
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "text").write_text("this is no database, " * 100)
    with pytest.raises(WorkbenchError, match="run store") as error:
        Store(url.format(tmp_path))
    assert "\n" not in str(error.value)


def test_a_store_of_a_newer_workbench_is_refused(store, tmp_path):
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("UPDATE meta SET value = '99'")
    with pytest.raises(WorkbenchError, match=r"newer workbench \(schema 99"):
        Store()


def test_the_store_never_imports_a_model_library():
    code = "import sys, json, workbench.store; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(python(code).communicate(timeout=20)[0])
    assert not {"torch", "transformers", "streamlit"} & set(modules)
