"""A table of GPUs by their makers' data sheets, and what share of those figures work reaches."""

from dataclasses import dataclass

from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Gpu:
    """A GPU as its data sheet describes it; no figure here was measured by us.

    - `bf16_tflops`, `fp32_tflops`: dense, on tensor cores where the precision has them (fp32: the
      ordinary cores, no TF32), in 10^12 floating-point operations a second
    - `bandwidth_gbs`: of its memory, in 10^9 bytes a second
    - `memory_gb`: in GB; `watts`: the board's power limit
    - `source`: the data sheet
    """

    name: str
    bf16_tflops: float
    fp32_tflops: float
    bandwidth_gbs: float
    memory_gb: float
    watts: float
    source: str


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100", 312, 19.5, 2039, 80, 400, "NVIDIA A100 80GB SXM, data sheet"),
        Gpu("H100", 989, 67, 3350, 80, 700, "NVIDIA H100 SXM, data sheet, without sparsity"),
        Gpu("H200", 989, 67, 4800, 141, 700, "NVIDIA H200 SXM, data sheet, without sparsity"),
        Gpu("L4", 121, 30.3, 300, 24, 72, "NVIDIA L4, data sheet, without sparsity"),
        Gpu("T4", 65, 8.1, 320, 16, 70, "NVIDIA T4, data sheet; fp16, as it has no bf16"),
        Gpu("RTX 4090", 165.2, 82.6, 1008, 24, 450, "NVIDIA Ada architecture, white paper"),
        Gpu("RTX 3090", 71, 35.6, 936, 24, 350, "NVIDIA GA102 architecture, white paper"),
    )
}
"""By name, of the larger memory where a card comes with two."""
USED = 0.4
"""Share of the matrix rate that training and scoring are assumed to reach on a GPU."""
STREAMED = 0.7
"""Share of the memory's bandwidth that they are assumed to reach."""
LAUNCH_US = 8.0
"""Microseconds that one operation is assumed to take at least, as Python starts each of them."""
TOGETHER = 0.9
"""Share of a GPU's speed that is assumed to stay when several train together."""


def named(names: list[str] | tuple[str, ...]) -> list[Gpu]:
    """The GPUs of these names; capitals do not matter.

    Raises:
        WorkbenchError: For a name that the table does not have.
    """
    by_name = {name.lower(): gpu for name, gpu in GPUS.items()}
    for name in names:
        if name.lower() not in by_name:
            raise WorkbenchError(
                f"There is no GPU {name!r} in the table; it has {', '.join(GPUS)}."
            )
    return [by_name[name.lower()] for name in names]
