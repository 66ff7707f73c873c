"""Background jobs: real workers, killed and cancelled for real."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from workbench.errors import WorkbenchError
from workbench.store import Store, jobs


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_STORE", raising=False)
    store = Store()
    yield store
    for run in store.list():
        if run.active and run.pid != os.getpid():
            jobs.cancel(run.id, grace=0.0)


def until(condition, seconds: float = 60.0):
    """Waits for something to become true and returns it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def start(store, **config):
    """A sleeping job that is at work: it has written a metric."""
    run = jobs.start("sleep", "a nap", {"seconds": 60, **config}, store=store)
    until(lambda: len(store.metrics(run.id)))
    return store.get(run.id)


def gone(pid: int) -> bool:
    """Not there at all, not even as a zombie."""
    until(lambda: not psutil.pid_exists(pid))
    return True


def test_a_job_runs_to_its_end_in_a_process_of_its_own(store):
    run = jobs.start("sleep", "a nap", {"seconds": 0.3}, parent="p", store=store)
    assert run.active and run.pid != os.getpid() and run.parent == "p"
    done = until(lambda: None if store.get(run.id).active else store.get(run.id))
    assert (done.status, done.progress, done.error) == ("done", 1.0, None)
    assert done.result["steps"] == len(store.metrics(run.id)) > 1
    assert gone(run.pid)


def test_a_worker_leads_its_own_session_at_low_priority(store):
    run = start(store)
    assert run.status == "running" and os.getsid(run.pid) == run.pid != os.getsid(0)
    assert psutil.Process(run.pid).nice() == psutil.Process().nice() + 5


def test_a_killed_worker_is_interrupted_and_keeps_its_last_metrics(store):
    run = start(store)
    time.sleep(0.5)
    os.kill(run.pid, signal.SIGKILL)
    killed = time.time()
    gone(run.pid)
    assert store.list()[0].status == "interrupted"
    assert store.metrics(run.id).time.max() > killed - 10
    store.delete(run.id)


def test_a_worker_killed_before_it_came_up_is_interrupted(store):
    run = jobs.start("sleep", "a nap", {"seconds": 60}, store=store)
    os.kill(run.pid, signal.SIGKILL)
    assert until(lambda: store.get(run.id).status == "interrupted")


def test_an_obeying_job_is_cancelled_without_force(store):
    run = start(store)
    begun = time.monotonic()
    cancelled = jobs.cancel(run.id[:-1], grace=30.0)
    assert (cancelled.status, cancelled.error) == (
        "cancelled",
        None,
    ) and time.monotonic() - begun < 30
    assert gone(run.pid)
    assert jobs.cancel(run.id) == cancelled


def test_a_job_that_does_not_listen_is_killed(store):
    run = start(store, obey=False)
    assert jobs.cancel(run.id, grace=0.2).status == "cancelled"
    assert gone(run.pid)


def test_the_children_of_a_worker_go_with_it(store):
    run = store.create("sleep", "t", {})
    # A shell that bears a worker's words; its child ignores SIGTERM, and outlives it.
    script = "(trap '' TERM; while true; do sleep 0.1; done) & echo $!; wait"
    command = ["sh", "-c", script, "workbench.store.worker", run.id]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as worker:
        assert worker.stdout
        child = psutil.Process(int(worker.stdout.readline()))
        store.hand_over(run.id, worker.pid)
        assert jobs.cancel(run.id, grace=0.1).status == "cancelled"
    assert until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_job_is_cancelled_before_it_comes_up(store):
    run = jobs.start("sleep", "a nap", {"seconds": 60}, store=store)
    jobs.cancel(run.id, grace=0.0)
    assert until(lambda: store.get(run.id).status == "cancelled")
    assert gone(run.pid)


def test_a_queued_run_without_a_worker_is_cancelled(store):
    run = store.create("sleep", "never started", {})
    assert jobs.cancel(run.id).status == "cancelled"


def test_a_run_in_the_foreground_is_asked_and_not_killed(store):
    with store.record("eval", "here", {}) as tracker:
        assert jobs.cancel(tracker.run_id, grace=0.0).status == "running"
        assert until(tracker.should_stop)


def test_a_worker_told_to_end_by_the_system_is_interrupted_and_keeps_its_metrics(store):
    run = start(store)
    os.kill(run.pid, signal.SIGTERM)
    gone(run.pid)
    ended = store.get(run.id)
    assert ended.status == "interrupted" and "SIGTERM" in ended.error
    assert store.metrics(run.id).time.max() > ended.ended - 30


def test_a_failing_job_leaves_one_line_and_a_traceback_in_the_log(store):
    run = jobs.start("sleep", "a nap", {"seconds": "long"}, store=store)
    failed = until(lambda: None if store.get(run.id).active else store.get(run.id))
    assert failed.status == "failed" and failed.error.startswith("ValueError: could not convert")
    log = jobs.tail(run.id)
    assert log.startswith("Traceback") and log.count("ValueError") == 1
    assert jobs.tail(run.id, 1) == log.splitlines()[-1]


def test_a_run_that_was_cut_short_is_taken_up_again_and_one_that_is_done_is_not(store):
    run = start(store)
    until(lambda: store.metrics(run.id).step.max() > 0)
    os.kill(run.pid, signal.SIGKILL)
    gone(run.pid)
    again = jobs.resume(run.id, store)
    assert again.id == run.id and again.active and again.error is None
    until(lambda: store.get(run.id).status == "running")
    with pytest.raises(WorkbenchError, match="running; only a run that was cut short"):
        jobs.resume(run.id, store)
    jobs.cancel(run.id, store, grace=30.0)
    store.forget_metrics(run.id, after=0)
    assert store.get(run.id).status == "cancelled" and set(store.metrics(run.id).step) == {0}


def test_the_tail_shows_the_last_state_of_a_progress_bar(store):
    run = store.create("eval", "t", {})
    assert jobs.tail(run.id) == ""
    (run.folder / "log.txt").write_bytes(b"first\n10 %\r50 %\r100 %\r\n20 %\r30 %")
    assert jobs.tail(run.id) == "first\n100 %\n30 %"
    assert jobs.tail(run.id, 2) == "100 %\n30 %"


def test_a_kind_that_does_not_exist_is_refused_before_anything_is_made(store):
    with pytest.raises(WorkbenchError, match=r"no job of kind 'nap'; the kinds are .*sleep"):
        jobs.start("nap", "t", {}, store=store)
    assert store.list() == []


def test_a_job_writes_to_the_store_that_it_was_started_from(store, tmp_path):
    other = Store(tmp_path / "other.sqlite")
    run = jobs.start("sleep", "a nap", {"seconds": 0.1}, store=other)
    assert until(lambda: other.get(run.id).status == "done")
    assert store.list() == []
