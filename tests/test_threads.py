"""How many threads are chosen: by the load of others, by a measurement, by hand."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
import torch

from tests.conftest import tiny_gpt
from workbench import threads
from workbench.errors import WorkbenchError
from workbench.modes import own_modes

pytestmark = pytest.mark.quick
SPIN = "while True: pass"


@pytest.fixture(autouse=True)
def two(monkeypatch) -> Iterator[None]:
    """A process that has chosen nothing yet, in which torch takes two threads by itself."""
    before = torch.get_num_threads()
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setattr(threads, "_STATE", threads._State())
    monkeypatch.setattr(threads, "_OWN", type("Own", (), {})())
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def neighbours() -> Iterator[list[psutil.Process]]:
    """A busy process for each core."""
    busy = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(psutil.cpu_count() or 1)]
    yield [psutil.Process(process.pid) for process in busy]
    for process in busy:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("now", "busy", "seconds", "chosen"),
    [
        (1, 0.1, {}, 2),  # nobody is there: all
        (2, 1.0, {1: 10.0, 2: 30.0}, 1),
        (1, 1.0, {1: 10.0, 2: 30.0}, 1),
        (1, 1.0, {1: 10.0, 2: 6.0}, 2),
        (1, 0.6, {1: 10.0, 2: 9.5}, 1),  # hardly better: as it is
        (2, 0.6, {1: 9.5, 2: 10.0}, 2),
        (2, None, {1: 10.0, 2: 6.0}, 2),
    ],
)
def test_the_choice_follows_what_was_measured(now, busy, seconds, chosen):
    assert threads.decide(2, now, busy, seconds).threads == chosen


def test_on_many_cores_the_number_beside_the_neighbours_is_tried_too():
    assert threads.decide(16, 16, 3.0, {1: 9.0, 13: 1.0, 16: 4.0}).threads == 13


def test_the_load_of_others_is_the_time_that_they_ran(neighbours):
    time.sleep(0.3)
    before = threads.read_load()
    ran = [sum(process.cpu_times()[:2]) for process in neighbours]
    now = ran
    end = time.monotonic() + 30
    while sum(now) - sum(ran) < 0.8 and time.monotonic() < end:  # on a full machine that takes long
        sum(range(100_000))  # our own load is not that of others
        now = [sum(process.cpu_times()[:2]) for process in neighbours]
    after = threads.read_load()
    theirs = (sum(now) - sum(ran)) / (after.at - before.at)
    cores = psutil.cpu_count() or 1
    own = (after.own - before.own) / (after.at - before.at)
    # Whoever else runs on this machine is another, too; none can have more than there is.
    assert sum(now) - sum(ran) >= 0.8
    assert 0.8 * theirs <= threads.others(before, after) <= cores - own + 0.2


def test_what_is_chosen_beside_busy_processes_is_not_slower_than_all_threads(neighbours):
    time.sleep(0.3)
    choice = threads.fit()
    assert set(choice.seconds) == {1, 2} and torch.get_num_threads() == choice.threads
    model = tiny_gpt(d_model=128)
    ids = torch.arange(32)[None]
    took: dict[int, list[float]] = {choice.threads: [], 2: []}
    for _ in range(3):
        for number, times in took.items():
            torch.set_num_threads(number)
            began = time.perf_counter()
            model(ids)
            times.append(time.perf_counter() - began)
    assert statistics.median(took[choice.threads]) <= 1.3 * statistics.median(took[2])


def test_a_choice_holds_for_a_while_and_costs_next_to_nothing():
    first = threads.fit()
    began = time.perf_counter()
    for _ in range(100):
        assert threads.fit() == first
    assert time.perf_counter() - began < 0.5


def test_a_number_set_by_the_caller_stays():
    threads.fit()
    torch.set_num_threads(3)
    assert threads.fit().threads == 3 and threads.fit(again=True).threads == 3
    assert torch.get_num_threads() == 3


def test_public_functions_compute_with_what_was_chosen(monkeypatch):
    monkeypatch.setenv(threads.VARIABLE, "1")
    assert own_modes(torch.get_num_threads)() == 1


@pytest.mark.parametrize(("given", "number"), [("keep", 2), ("1", 1), (" 4 ", 4)])
def test_the_environment_sets_the_number(given, number, monkeypatch):
    monkeypatch.setenv(threads.VARIABLE, given)
    choice = threads.fit()
    assert choice.threads == number == torch.get_num_threads() == threads.most()
    assert threads.VARIABLE in choice.why


@pytest.mark.parametrize("given", ["many", "0", "-2", "1.5", "9999999999999"])
def test_a_number_that_is_none_is_named_with_its_mend(given, monkeypatch):
    monkeypatch.setenv(threads.VARIABLE, given)
    with pytest.raises(WorkbenchError, match=r"WORKBENCH_THREADS is .*write a number of threads"):
        threads.fit()


def test_the_most_does_not_change_while_others_come_and_go(neighbours):
    time.sleep(0.3)
    threads.fit()
    assert threads.most() == 2
