"""What this machine can do, measured once: matrix products, memory, calls, disk, and its GPU.

The figures are kept on disk, for each processor, number of threads and version of torch.
"""

import hashlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import paths
from workbench.doors import made_folder, writing
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record

if TYPE_CHECKING:
    import pandas as pd

WIDTHS = (64, 128, 256, 512, 1024)
"""Widths of the multiplied matrices: small ones run far below a processor's best rate."""
ROWS = 1024
"""Rows of the left matrix."""
SPENT = 0.05
"""Seconds of measuring a figure, at least."""
RUNS = 3
"""Runs of which a figure is the typical one, at least."""
COPIED = 2**24
"""Numbers copied to measure the bandwidth, more than fit in a processor's caches."""
WRITTEN = 2**25
"""Bytes written to measure the disk."""


@dataclass(frozen=True)
class Machine(Record):
    """What one machine reached when it was measured.

    - `fp32_gflops`, `bf16_gflops`: for each of `widths` the rate of a product of matrices
      `[1024, width] @ [width, 4 width]`, in 10^9 floating-point operations a second
    - `bandwidth_gbs`: of the memory, reading and writing, in 10^9 bytes a second
    - `block_gbs`: the same of what a model's blocks compute besides products, forward and
      backward, in the precision that training takes by itself
    - `call_us`, `call_learned_us`: what one operation of a block costs however small its numbers
      are, in microseconds; the latter forward and backward, in training's precision
    - `disk_mbs`: of writing to the home folder until the disk has it, in 10^6 bytes a second
    - `gpu`, `gpu_memory_gb`: "" and 0 where there is none
    - `measured`: unix time; `seconds`: how long that took
    - `load`: share of the processors that others used at the time, from 0
    """

    processor: str
    cores: int
    threads: int
    memory_gb: float
    widths: list[int]
    fp32_gflops: list[float]
    bf16_gflops: list[float]
    bandwidth_gbs: float
    block_gbs: float
    call_us: float
    call_learned_us: float
    disk_mbs: float
    gpu: str
    gpu_memory_gb: float
    measured: float
    seconds: float
    load: float

    def headline(self) -> str:
        """The figures in one line."""
        gpu = f"; {self.gpu}, {self.gpu_memory_gb:.0f} GB" if self.gpu else ""
        busy = " (others were at work)" if self.load > BUSY else ""
        return (
            f"{max(self.fp32_gflops):.0f} GFLOP/s fp32, {max(self.bf16_gflops):.0f} bf16, memory "
            f"{self.bandwidth_gbs:.0f} GB/s, disk {self.disk_mbs:.0f} MB/s, threads: "
            f"{self.threads}{gpu}{busy}"
        )

    def to_frame(self) -> "pd.DataFrame":
        """One row for each figure."""
        import pandas as pd

        rows: list[tuple[str, float | str, str]] = [
            (f"{name} at width {width}", rate, "GFLOP/s")
            for name, rates in (("fp32", self.fp32_gflops), ("bf16", self.bf16_gflops))
            for width, rate in zip(self.widths, rates, strict=True)
        ]
        rows += [
            ("memory bandwidth", self.bandwidth_gbs, "GB/s"),
            ("a block besides products", self.block_gbs, "GB/s"),
            ("one operation", self.call_us, "microseconds"),
            ("one operation, learned through", self.call_learned_us, "microseconds"),
            ("disk, writing", self.disk_mbs, "MB/s"),
            ("memory", self.memory_gb, "GiB"),
        ]
        if self.gpu:
            rows.append((self.gpu, self.gpu_memory_gb, "GiB"))
        return pd.DataFrame(rows, columns=["figure", "value", "unit"])

    def gflops(self, width: float, precision: str = "fp32") -> float:
        """The rate at a width, between the measured ones by the logarithm of both.

        Args:
            width: Of the smaller matrix, such as `d_model`.
            precision: fp32 or bf16.
        """
        rates = self.bf16_gflops if precision == "bf16" else self.fp32_gflops
        return _between(width, self.widths, rates)


def _between(width: float, widths: Sequence[int], rates: list[float]) -> float:
    """The rate at a width, between the measured ones by the logarithm of both."""
    return float(np.exp(np.interp(np.log(width), np.log(widths), np.log(rates))))


BUSY = 0.25
"""Load above which the figures are called disturbed."""


@public()
@own_modes
def machine(*, again: bool = False) -> Machine:
    """This machine's figures, measured in about three seconds at the first call and kept on disk.

    Args:
        again: Measure anew, such as when the machine was busy the last time.
    """
    file = _file()
    if not again:
        with suppress(WorkbenchError):  # a damaged or an older file is measured anew
            return Machine.read(file)
    measured = _measured()
    made_folder(file.parent)
    with writing(file) as part:
        part.write_text(measured.to_json(), encoding="utf-8")
    return measured


def _file() -> Path:
    """The file with the figures of this machine at this number of threads."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    words = (platform.node(), _processor(), os.cpu_count(), torch.__version__, gpu)
    key = hashlib.sha256(repr((*words, torch.get_num_threads())).encode()).hexdigest()[:16]
    return paths.home() / "machine" / f"{key}.json"


def _measured() -> Machine:
    import psutil
    import torch

    from workbench.budget import block

    began = time.perf_counter()
    psutil.cpu_percent()  # what was in use before it is called again counts from here
    threads = torch.get_num_threads()
    fp32 = [_rate(width, torch.float32) for width in WIDTHS]
    bf16 = _emulated(torch.bfloat16, fp32) or [_rate(width, torch.bfloat16) for width in WIDTHS]
    busy = psutil.cpu_percent() / 100 * (os.cpu_count() or 1)
    rates = {"fp32": fp32, "bf16": bf16}
    blocks = block.measured(
        lambda work, alone: _typical(work, alone=alone),
        lambda width, precision: _between(width, WIDTHS, rates[precision]),
    )
    has_gpu = torch.cuda.is_available()
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=threads,
        memory_gb=psutil.virtual_memory().total / 2**30,
        widths=list(WIDTHS),
        fp32_gflops=fp32,
        bf16_gflops=bf16,
        bandwidth_gbs=_bandwidth(),
        block_gbs=blocks.gbs,
        call_us=blocks.call_us,
        call_learned_us=blocks.call_learned_us,
        disk_mbs=_disk(),
        gpu=torch.cuda.get_device_name() if has_gpu else "",
        gpu_memory_gb=torch.cuda.get_device_properties(0).total_memory / 2**30 if has_gpu else 0.0,
        measured=time.time(),
        seconds=time.perf_counter() - began,
        load=max(0.0, busy - threads) / (os.cpu_count() or 1),
    )


def _processor() -> str:
    """The processor's name, as Linux knows it; elsewhere Python's word for it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _typical(work: Callable[[], Any], *, alone: bool = False) -> float:
    """Seconds of a typical run, after one to warm up; `SPENT` seconds and `RUNS` at least.

    Where a neighbour ran in between, a run takes longer. One thread's own time is known to the
    processor, so that it counts; of several threads the quicker half of the runs does, as their
    time divided by their number would hide what they waited for each other.

    Args:
        work: What is measured.
        alone: Whether one thread does it, however many there are.
    """
    import torch

    alone = alone or torch.get_num_threads() == 1
    work()
    seconds = []
    end = time.perf_counter() + SPENT
    while True:
        began = time.perf_counter()
        used = time.process_time()
        work()
        now = time.perf_counter()
        cpu = time.process_time() - used
        seconds.append(min(now - began, cpu) if alone and cpu else now - began)
        if now > end and len(seconds) >= RUNS:
            seconds.sort()
            return statistics.median(seconds if alone else seconds[: len(seconds) // 2 + 1])


def _rate(width: int, dtype: Any) -> float:
    """GFLOP/s of one product."""
    import torch

    a = torch.ones(ROWS, width, dtype=dtype, device="cpu")
    b = torch.ones(width, 4 * width, dtype=dtype, device="cpu")
    return 2 * ROWS * width * 4 * width / _typical(lambda: torch.mm(a, b)) / 1e9


def _emulated(dtype: Any, fp32: list[float]) -> list[float]:
    """The rates of a precision that this processor only emulates, from its smallest product.

    A large one would take seconds. Empty where the processor has the precision.
    """
    smallest = _rate(WIDTHS[0], dtype)
    return [smallest] * len(WIDTHS) if smallest < fp32[0] / 4 else []


def _bandwidth() -> float:
    """GB/s of copying: what is read and what is written."""
    import torch

    a = torch.zeros(COPIED, dtype=torch.float32, device="cpu")
    b = torch.ones(COPIED, dtype=torch.float32, device="cpu")
    return 2 * 4 * COPIED / _typical(lambda: a.copy_(b)) / 1e9


def _disk() -> float:
    """MB/s of writing a file into the home folder until the disk has it."""
    path = paths.home() / f".speed-{os.getpid()}"
    data = os.urandom(WRITTEN)
    try:
        began = time.perf_counter()
        with path.open("wb") as stream:
            stream.write(data)
            os.fsync(stream.fileno())
        return WRITTEN / (time.perf_counter() - began) / 1e6
    except OSError as error:
        raise WorkbenchError(
            f"The home folder cannot be written to ({error.strerror}); free some space, or set "
            "WORKBENCH_HOME to another folder."
        ) from error
    finally:
        path.unlink(missing_ok=True)
