"""The shipped evaluation belongs to the bundled weights and becomes an ordinary run once."""

import json
import threading

from workbench import paths
from workbench.benchmarks import Results
from workbench.store import Store
from workbench.subjects import load
from workbench.ui import shipped


def test_the_shipped_scores_are_of_the_shipped_weights():
    for name in ("shelf-base", "shelf-tuned"):
        results = Results.read(paths.shelf("models") / shipped.FOLDER / name)
        card = json.loads((paths.shelf("models") / name / "card.json").read_text())
        subject = load(name)
        assert results.subject_hash == subject.hash and card["sha256"] == subject.card.sha256
        assert {row.task for row in results.rows} == {
            "repeat",
            "agreement",
            "ioi",
            "passage",
            "intents",
        }


def test_an_empty_store_is_given_the_shipped_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    for _ in range(2):
        shipped._ensured.cache_clear()
        shipped.ensure()
    (run,) = Store().list("eval")
    assert run.status == "done" and (run.folder / "shelf-tuned" / "samples.parquet").is_file()
    assert run.result is not None
    assert "shipped" in run.title and run.result["comparison"]


def test_eight_sessions_that_begin_at_once_are_given_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    barrier = threading.Barrier(8)
    faults: list[BaseException] = []

    def begin() -> None:
        barrier.wait()
        try:
            shipped.ensure()
        except BaseException as error:
            faults.append(error)
            raise

    sessions = [threading.Thread(target=begin) for _ in range(8)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    (run,) = Store().list("eval")
    assert run.status == "done" and not faults


def test_the_tuned_model_is_better_at_its_task_and_the_paired_test_says_so():
    record = json.loads((paths.shelf("models") / shipped.FOLDER / "run.json").read_text())
    intents = next(row for row in record["result"]["comparison"] if row["task"] == "intents")
    assert intents["low"] > 0.3 and intents["p_adjusted"] < 0.001
