"""The run store on a real PostgreSQL server: several nodes write at once, and nothing is lost."""

import json
import math
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

import workbench as wb
from tests.postgres_server import PASSWORD, Server, programs, server
from workbench.errors import WorkbenchError
from workbench.store import Store, jobs

pytestmark = pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")

NODES = 4
RUNS = 3
STEPS = 150
NODE = f"""
import sys
from workbench.store import Store
store = Store()
for number in range({RUNS}):
    with store.record("eval", f"node {{sys.argv[1]}} run {{number}}", {{"node": sys.argv[1]}}) as t:
        for step in range({STEPS}):
            t.log(step, loss=step * 1.5, acc=0.5)
            t.progress(step / {STEPS})
        t.result = {{"node": sys.argv[1]}}
"""


@pytest.fixture(scope="module")
def database_server():
    with server() as running:
        yield running


@pytest.fixture
def url(database_server: Server, tmp_path, monkeypatch, request) -> str:
    """The URL of an empty database, which is the store's."""
    name = f"t{abs(hash(request.node.name)):x}"
    url = database_server.new_database(name)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    url = url.replace("+psycopg", "")  # as most people write it
    monkeypatch.setenv("WORKBENCH_STORE", url)
    return url


def test_nodes_that_start_at_once_on_an_empty_database_lose_nothing(url: str):
    command = [sys.executable, "-c", NODE]
    nodes = [subprocess.Popen([*command, str(node)]) for node in range(NODES)]
    assert [node.wait(timeout=240) for node in nodes] == [0] * NODES
    store = Store()
    runs = store.list(limit=100)
    assert Counter(run.status for run in runs) == {"done": NODES * RUNS}
    assert Counter(run.config["node"] for run in runs) == {str(n): RUNS for n in range(NODES)}
    for run in runs:
        assert run.result == {"node": run.config["node"]}
        logged: Any = store.metrics(run.id)
        losses = logged[logged["name"] == "loss"]
        assert losses["step"].tolist() == list(range(STEPS))
        assert losses["value"].sum() == 1.5 * STEPS * (STEPS - 1) / 2
        assert len(logged) == 2 * STEPS


def test_numbers_and_texts_come_back_as_they_were(url: str):
    store = Store()
    title = "naïve 🔬 \x00 \ud800 title"
    with store.record("eval", title, {"note": "a\x00b", "rate": math.nan}) as tracker:
        tracker.log(2**40, loss=math.nan)
        tracker.log(2**40 + 1, loss=math.inf)
        tracker.log(2**40 + 2, loss=1e-300)
        tracker.progress(0.5, "half \x00 way")
    run = store.get(tracker.run_id)
    assert run.status == "done"
    assert run.title.startswith("naïve 🔬") and "half" in run.message
    assert run.config["note"] == "a\x00b" and math.isnan(run.config["rate"])
    logged: Any = store.metrics(run.id)
    assert logged["step"].tolist() == [2**40, 2**40 + 1, 2**40 + 2]
    values = logged["value"].tolist()
    assert math.isnan(values[0]) and values[1] == math.inf and values[2] == 1e-300
    assert [each.id for each in store.list(search="NAÏVE")] == [run.id]


def test_a_training_job_in_a_process_of_its_own_is_followed_and_stopped(url: str):
    store = Store()
    recipe = {
        "title": "long",
        "model": {"n_ctx": 16, "n_layers": 1, "n_heads": 2, "d_model": 16},
        "tokenizer": {"kind": "char"},
        "corpus": {"sources": ["generated"], "validation": 0.1},
        "train": {"steps": 100_000, "batch_size": 2, "checkpoint_every": 100_000},
    }
    run = jobs.start("train", "long", recipe, store=store)
    for _ in range(1200):
        if len(store.metrics(run.id)) > 20:
            break
        time.sleep(0.1)
    assert store.get(run.id).status == "running"
    jobs.cancel(run.id, store)
    assert store.get(run.id).status == "cancelled"
    assert PASSWORD not in json.dumps(store.get(run.id).config)


def test_a_run_outlives_a_restart_of_the_server(database_server: Server, url: str):
    store = Store()
    with store.record("eval", "through", {}) as tracker:
        tracker.log(0, loss=1.0)
        tracker.flush()
        database_server.stop()
        tracker.log(1, loss=2.0)
        tracker.flush()  # in vain, and kept
        database_server.start()
        tracker.log(2, loss=3.0)
    logged: Any = store.metrics(tracker.run_id)
    assert logged["value"].tolist() == [1.0, 2.0, 3.0]
    assert store.get(tracker.run_id).status == "done"


@pytest.mark.parametrize("case", ["password", "port", "database", "driver"])
def test_a_server_that_cannot_be_used_is_one_sentence_without_the_password(
    database_server: Server, case: str
):
    wrong = {
        "password": database_server.url(password="wrong-secret"),
        "port": f"postgresql+psycopg://bench:{PASSWORD}@127.0.0.1:1/postgres",
        "database": database_server.url("nowhere"),
        "driver": f"postgresql+asyncpgx://bench:{PASSWORD}@127.0.0.1/postgres",
    }[case]
    with pytest.raises(WorkbenchError, match="cannot open the run store") as raised:
        Store(wrong)
    words = str(raised.value)
    assert PASSWORD not in words and "wrong-secret" not in words
    assert "\n" not in words


def test_a_missing_driver_is_named_with_its_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(WorkbenchError, match=r"pip install .gpt-workbench\[postgres\]"):
        Store("postgresql://bench@127.0.0.1:1/postgres")


def test_models_of_runs_load_by_a_store_on_the_server(url: str):
    recipe = wb.Recipe.from_dict(
        {
            "title": "short",
            "model": {"n_ctx": 16, "n_layers": 1, "n_heads": 2, "d_model": 16},
            "tokenizer": {"kind": "char"},
            "corpus": {"sources": ["generated"], "validation": 0.1},
            "train": {"steps": 2, "batch_size": 2, "eval_every": 1, "checkpoint_every": 1},
        }
    )
    run = wb.train(recipe)
    assert run.status == "done"
    assert wb.load(f"run:{run.id}").card.n_layers == 1
