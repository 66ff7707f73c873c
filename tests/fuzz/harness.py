"""Reads mutants in a process of its own, which may run out of time, out of memory, or die.

Each read has `SECONDS`, and `BYTES` more than the process has at its start. What a read came to is
one of: loaded, refused (a `WorkbenchError`), raw (any other exception), slow, memory, died.
"""

import multiprocessing
import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets  # noqa: F401
import gguf  # noqa: F401
import lm_eval.tasks  # noqa: F401
import pandas as pd  # noqa: F401
import peft  # noqa: F401
import pyarrow.parquet  # noqa: F401
import torch
import transformers.models.auto.modeling_auto  # noqa: F401

import workbench.benchmarks.run
import workbench.comparison
import workbench.training.tasks
import workbench.training.texts  # noqa: F401
from tests.fuzz.mutations import mutant
from workbench.errors import WorkbenchError

# What reads take long to import is imported once, here, and not in each new process.
SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))
"""For one read, on a busy machine too."""
BYTES = 1 << 30
"""Of memory that a read may fill."""
ADDRESSES = 4 << 30
"""Bytes of addresses that it may ask for: Arrow keeps a few ranges of a gigabyte to itself that it
hardly fills.
"""
TURN = 1000
"""Mutants that one process reads: pyarrow keeps 2 MB of addresses (not of memory) an archive."""
SLOW_COUNT = int(os.environ.get("FUZZ", "500"))
SLOW_SEED = int(os.environ.get("FUZZ_SEED", "1"))
"""How many mutants of each format the slow tests draw, and by which seed."""
LONGEST = 3000
"""Characters of a sentence: a file's name of many letters may be in it, a whole file may not."""
WRONG = ("raw", "slow", "memory", "died", "long")


@dataclass(frozen=True)
class Door:
    """A format that comes in: how a good file is made, how it is damaged, and what reads it."""

    name: str
    form: str
    make: Callable[[Path], Path]
    """Writes good files into a folder, and gives the one that is damaged."""
    read: Callable[[Path], Any]
    """Takes the damaged file through the public functions that read it."""
    quick: int = 10
    """Mutants in the quick tests; a cheap read has more."""


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    number: int
    kind: str
    words: str = ""

    def __str__(self) -> str:
        return f"{self.number}: {self.kind} {self.words}"


GOOD = -1
"""The number of the good file itself, which goes through the door first."""


def outcomes(door: Door, folder: Path, count: int, seed: int = 0) -> Iterator[Outcome]:
    """What became of the good file, and of each of `count` mutants of it.

    Nothing is read in this process: libraries start threads, which a child would not have.
    """
    target = door.make(folder)
    content = target.read_bytes()
    number = GOOD
    while number < count:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = os.fork()
        if not child:
            receiver.close()
            turn = range(number, min(count, number + TURN))
            _work(door, target, content, turn, seed, sender)
        sender.close()
        for outcome in _received(receiver, child, number):
            yield outcome
            number = outcome.number + 1
    target.write_bytes(content)


def _received(receiver: Any, child: int, number: int) -> Iterator[Outcome]:
    """What a process says until it ends, or is ended because it takes too long."""
    last = number - 1
    why = "died"
    try:
        while receiver.poll(SECONDS):
            outcome = Outcome(*receiver.recv())
            last = outcome.number
            yield outcome
        why = "slow"
    except EOFError:
        pass
    finally:
        receiver.close()
        if why == "slow":
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if why == "slow" or status:
        yield Outcome(
            last + 1, why, f"status {status}" if why == "died" else f"more than {SECONDS} s"
        )


def _work(door: Door, target: Path, content: bytes, numbers: range, seed: int, sender: Any) -> None:
    """In the new process: read every mutant, send what became of it, and end without the parent's
    clean-up.
    """
    code = 1
    try:
        _confine()
        most = _peak() + BYTES
        for number in numbers:
            target.write_bytes(
                content if number == GOOD else mutant(content, door.form, seed, number)
            )
            kind, words = _read(door, target)
            peak = _peak()
            if peak > most:
                words = f"{peak:,} bytes ({kind})"
                kind = "memory"
                most = peak
            sender.send((number, kind, words))
        code = 0
    finally:
        sender.close()
        os._exit(code)


def _confine() -> None:
    torch.set_num_threads(1)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESSES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if not os.environ.get("FUZZ_STDERR"):
        os.dup2(null, 2)


def _peak() -> int:
    """Bytes of memory that this process has filled at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(door: Door, target: Path) -> tuple[str, str]:
    try:
        door.read(target)
    except WorkbenchError as error:
        if _ran_out(error):
            return "memory", _last(error)
        return (
            ("refused", str(error)[:300])
            if len(str(error)) <= LONGEST
            else ("long", str(error)[:300])
        )
    except BaseException as error:  # Rust's panics are none of Python's exceptions
        return ("memory" if _ran_out(error) else "raw"), _last(error)
    return "loaded", ""


def _ran_out(error: BaseException | None) -> bool:
    """Whether memory ran out somewhere below an error."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error)[:500]:
            return True
        error = error.__cause__ or error.__context__
    return False


def _last(error: BaseException) -> str:
    """The kind of an error, its words, and where in the workbench it came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__)]
    ours = [f for f in frames if "/workbench/" in f.filename or "/tests/" in f.filename]
    where = " < ".join(
        f"{Path(f.filename).name}:{f.lineno}" for f in [*frames[-1:], *reversed(ours[-3:])]
    )
    return f"{type(error).__name__}: {str(error)[:160]!r} at {where}"


def check(door: Door, folder: Path, count: int, seed: int = 0) -> None:
    """Fail with the mutants that were neither loaded nor refused in a sentence."""
    wrong = faults(door, folder, count, seed)
    words = "\n".join(map(str, wrong[:20]))
    assert not wrong, f"{len(wrong)} of {count} mutants of {door.name} (seed {seed}):\n{words}"


def faults(door: Door, folder: Path, count: int, seed: int = 0) -> list[Outcome]:
    """The mutants that were neither loaded nor refused with a sentence; the good file where it was
    not loaded.
    """
    return [
        outcome
        for outcome in outcomes(door, folder, count, seed)
        if outcome.kind in WRONG or (outcome.number == GOOD and outcome.kind != "loaded")
    ]
