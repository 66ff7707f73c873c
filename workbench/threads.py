"""How many threads a computation takes: as many as are faster, by a short measurement.

Where another process keeps a core busy, every product on all cores waits for the thread that shares
one with it, so fewer threads are several times faster. `fit` is called before and during long
computations; it measures at most every few seconds.
"""

import math
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError

VARIABLE = "WORKBENCH_THREADS"
KEEP = "keep"
"""The value of `WORKBENCH_THREADS` that leaves the number to torch."""
EVERY = 3.0
"""Seconds for which a choice holds."""
SOON = 0.4
"""Seconds for which a choice holds that was made without knowing the load of others."""
FREE = 0.25
"""Cores that other processes may use before threads are measured."""
WINDOW = 0.2
"""Seconds over which the load of others must be known; the system counts in hundredths."""
ALIKE = 0.3
"""Cores by which the load of others may change before threads are measured again."""
AGAIN = 10.0
"""Seconds after which they are measured again though it has not changed."""
TURN = 0.012
"""Seconds of one turn of a measurement: longer than the system's time slices."""
TURNS = 2
BETTER = 0.9
"""Share of the time that another number must take to be chosen."""
ROWS = 16
WIDTH = 512
"""The measured product, `[ROWS, WIDTH]` by `[WIDTH, WIDTH]`, is about one of a small model's."""


@dataclass(frozen=True)
class Choice:
    """How many threads were chosen.

    - `threads`, `most`: the number, and what torch takes by itself
    - `why`: the reason, for people
    - `seconds`: of the measured product by number of threads; empty where none was needed
    """

    threads: int
    most: int
    why: str
    seconds: dict[int, float] = field(default_factory=dict)


@dataclass
class _Load:
    """A reading of the clocks: when, seconds of all processors in use, those of this process."""

    at: float
    used: float
    own: float


class _State:
    """The choice that holds, the last reading, when and under which load threads were measured, and
    the numbers that were ever set here.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.until = -math.inf
        self.choice: Choice | None = None
        self.load: _Load | None = None
        self.measured: tuple[float, float] | None = None
        self.most = 0
        self.set_here: set[int] = set()
        self.factors: Any = None


_STATE = _State()
_OWN = threading.local()


def fit(*, again: bool = False) -> Choice:
    """The number of threads that is chosen now, set for the calling thread.

    A number that somebody else has set by `torch.set_num_threads` is left as it is.

    Args:
        again: Choose again though a choice still holds.

    Raises:
        WorkbenchError: `WORKBENCH_THREADS` is neither `keep` nor a number.
    """
    import torch  # what computes nothing need not wait for it

    now = torch.get_num_threads()
    fixed = forced()
    if fixed is not None:
        return _set(fixed or now, now, f"{VARIABLE}={os.environ[VARIABLE]}")
    with _STATE.lock:
        _STATE.most = _STATE.most or now
        if now not in {_STATE.most, *_STATE.set_here} or getattr(_OWN, "number", now) != now:
            return Choice(now, _STATE.most, "set by torch.set_num_threads")
        if again or _STATE.choice is None or time.monotonic() >= _STATE.until:
            _STATE.choice = _choose(now)
            informed = _STATE.measured is not None or not _STATE.choice.seconds
            _STATE.until = time.monotonic() + (EVERY if informed else SOON)
        choice = _STATE.choice
        _STATE.set_here.add(choice.threads)
    return _set(choice.threads, choice.most, choice.why, choice.seconds)


def forced() -> int | None:
    """The number that `WORKBENCH_THREADS` says, 0 for `keep`; None where it is not set.

    Raises:
        WorkbenchError: It is neither.
    """
    given = os.environ.get(VARIABLE, "").strip().lower()
    if not given:
        return None
    if given == KEEP:
        return 0
    if not given.isascii() or not given.isdigit() or not 0 < int(given[:9]) <= 4096:
        raise WorkbenchError(
            f"{VARIABLE} is {given!r}; write a number of threads such as 2, {KEEP} to leave it to "
            "torch, or nothing to have it measured."
        )
    return int(given)


def most() -> int:
    """The most threads that `fit` chooses: what does not change while others come and go.

    Raises:
        WorkbenchError: `WORKBENCH_THREADS` is neither `keep` nor a number.
    """
    import torch

    return forced() or _STATE.most or torch.get_num_threads()


def others(before: _Load, after: _Load) -> float:
    """Cores that other processes used between two readings."""
    passed = max(after.at - before.at, 1e-9)
    return max(0.0, (after.used - before.used - (after.own - before.own)) / passed)


def read_load() -> _Load:
    """A reading of the clocks of all processors and of this process."""
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # What guests use is counted as the user's too.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    own = os.times()
    return _Load(time.monotonic(), sum(times) - idle - guests, own.user + own.system)


def measured(numbers: list[int]) -> dict[int, float]:
    """Seconds of one product of matrices by number of threads, measured in turns.

    Args:
        numbers: Those to try; the calling thread has the last of them afterwards.
    """
    import torch

    if _STATE.factors is None:
        how: Any = {"dtype": torch.float32, "device": "cpu"}
        _STATE.factors = torch.ones(ROWS, WIDTH, **how), torch.ones(WIDTH, WIDTH, **how)
    left, right = _STATE.factors
    passed = dict.fromkeys(numbers, 0.0)
    done = dict.fromkeys(numbers, 0)
    with torch.no_grad():
        for _ in range(TURNS):
            for number in numbers:
                if passed[number] > TURNS * TURN:
                    continue  # one product took that long, which says enough
                torch.set_num_threads(number)
                began = time.perf_counter()
                torch.mm(left, right)  # starts the threads
                start = time.perf_counter()
                if start - began < TURN:
                    began = start
                else:
                    done[number] += 1
                while time.perf_counter() - began < TURN:
                    torch.mm(left, right)
                    done[number] += 1
                passed[number] += time.perf_counter() - began
    return {number: passed[number] / done[number] for number in numbers}


def decide(most: int, now: int, busy: float | None, seconds: dict[int, float]) -> Choice:
    """The choice that follows from what was measured.

    Args:
        most: Threads that torch takes by itself.
        now: Threads at present.
        busy: Cores that others use; None if that is not known.
        seconds: Of one product by number of threads; empty where others leave all cores free.
    """
    load = "" if busy is None else f"others use {busy:.1f} cores"
    if not seconds:
        return Choice(most, most, load)
    current = now if now in seconds else most
    best = min(seconds, key=lambda number: seconds[number])
    chosen = best if seconds[best] < BETTER * seconds[current] else current
    took = ", ".join(f"{1e6 * took:,.0f} µs on {number}" for number, took in seconds.items())
    return Choice(chosen, most, f"{load}{'; ' if load else ''}a product takes {took}", seconds)


def _choose(now: int) -> Choice:
    """The choice by the load of others and, where they use something, by a measurement.

    Args:
        now: Threads at present.
    """
    most = _STATE.most
    if most == 1:
        return Choice(1, 1, "torch takes one by itself")
    before = _STATE.load
    after = _STATE.load = read_load()
    busy = None
    if before is not None and WINDOW <= after.at - before.at <= 4 * EVERY:
        busy = others(before, after)
        if busy < FREE:
            _STATE.measured = None
            return decide(most, now, busy, {})
        if _holds(busy) and _STATE.choice is not None:
            return _STATE.choice
    # At first and after a pause nobody knows the load, so the measurement alone says.
    beside = most - math.ceil(busy or 0)
    seconds = measured(sorted({1, most, *([beside] if beside > 1 else [])}))
    _STATE.load = read_load()  # without the measurement itself
    _STATE.measured = None if busy is None else (time.monotonic(), busy)
    return decide(most, now, busy, seconds)


def _holds(busy: float) -> bool:
    """Whether the last measurement was not long ago, under about the same load."""
    if _STATE.measured is None:
        return False
    at, load = _STATE.measured
    return time.monotonic() - at < AGAIN and abs(busy - load) < ALIKE


def _set(number: int, most: int, why: str, seconds: dict[int, float] | None = None) -> Choice:
    import torch

    if torch.get_num_threads() != number:
        torch.set_num_threads(number)
    _OWN.number = number
    return Choice(number, most, why, seconds or {})
