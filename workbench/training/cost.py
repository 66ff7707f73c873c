"""What a recipe costs on this machine: a few steps are measured, the rest is arithmetic."""

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from workbench import paths
from workbench.training import checkpoints, resources
from workbench.training.checks import check
from workbench.training.loop import Batch, Stepper, Trainee
from workbench.training.recipe import Optimisation, Recipe

STEPS = 4
"""Measured steps after a first one to warm up."""


@dataclass(frozen=True)
class Cost:
    """The cost of a whole run, projected from `n` measured steps.

    - `seconds_a_step`: the fastest and the slowest
    - `flops`: of the whole run; `mfu`: share of `matrix_gflops` that training reaches
    - `memory_gb`: peak of the process, or of the GPU; `disk_gb`: of the checkpoints that are kept
    """

    parameters: int
    trained_parameters: int
    tokens: int
    flops: float
    seconds: float
    seconds_a_step: tuple[float, float]
    tokens_per_s: float
    mfu: float
    matrix_gflops: float
    memory_gb: float
    disk_gb: float
    free_disk_gb: float
    device: str
    precision: str
    n: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def words(self) -> list[tuple[str, str]]:
        """Pairs of label and formatted figure, for a table."""
        low, high = self.seconds_a_step
        return [
            ("device", f"{self.device}, {self.precision}"),
            (
                "parameters",
                f"{self.parameters:,}, of which {self.trained_parameters:,} are trained",
            ),
            ("tokens", f"{self.tokens:,}"),
            ("arithmetic", f"{self.flops:.2e} floating-point operations"),
            (
                "time",
                (
                    f"{_duration(self.seconds)}, without evaluation (a step: {low:.3f} to "
                    f"{high:.3f} s, n = {self.n})"
                ),
            ),
            ("speed", f"{self.tokens_per_s:,.0f} tokens a second"),
            (
                "use of the machine",
                f"{self.mfu:.0%} of {self.matrix_gflops:,.0f} GFLOP/s, its measured matrix rate",
            ),
            ("peak memory", f"{self.memory_gb:.2f} GB"),
            ("disk", f"{self.disk_gb:.2f} GB of {self.free_disk_gb:,.0f} GB free"),
        ]


def cost(
    recipe: Recipe, progress: Callable[[float, str], None] = lambda share, words: None
) -> Cost:
    """The projected cost of a recipe: prepares data and model, measures a few steps, keeps nothing.

    Args:
        recipe: Pretraining or fine-tuning.
        progress: Called with the share done and what is being done.

    Raises:
        WorkbenchError: For whatever would also stop the run: no text, a wrong key, out of memory.
    """
    recipe = check(recipe)
    trainee, batch, stepper_of = _work(recipe, progress)
    settings = recipe.train
    stepper = stepper_of(trainee, settings)
    inputs, _ = batch(0)
    seconds: list[float] = []
    for step in range(STEPS + 1):
        progress(step / (STEPS + 1), f"measuring step {step + 1} of {STEPS + 1}")
        began = time.perf_counter()
        loss, _ = stepper.step(batch(step), step)
        float(loss)  # waits for the device
        seconds.append(time.perf_counter() - began)
    measured = seconds[1:]
    n_tokens = inputs.numel()
    typical = statistics.median(measured)
    flops = n_tokens * stepper.flops_per_token(inputs.shape[1])
    return Cost(
        parameters=resources.n_parameters(trainee.model),
        trained_parameters=sum(p.numel() for p in trainee.model.parameters() if p.requires_grad),
        tokens=n_tokens * settings.steps,
        flops=flops * settings.steps,
        seconds=typical * settings.steps,
        seconds_a_step=(min(measured), max(measured)),
        tokens_per_s=n_tokens / typical,
        mfu=flops / typical / stepper.rate,
        matrix_gflops=stepper.rate / 1e9,
        memory_gb=resources.peak_memory_gb(stepper.device),
        disk_gb=_disk_gb(trainee.model, settings),
        free_disk_gb=_free_gb(paths.home()),
        device=torch.cuda.get_device_name()
        if stepper.device == "cuda"
        else f"CPU, threads: {torch.get_num_threads()}",
        precision=stepper.accelerator.mixed_precision.replace("no", "float32"),
        n=len(measured),
    )


def _work(
    recipe: Recipe, progress: Callable[[float, str], None]
) -> tuple[Trainee, Callable[[int], Batch], Callable[..., Stepper]]:
    if recipe.kind == "pretrain":
        from workbench.training.pretrain import batches, setup

        trainee, tokens = setup(recipe, progress=progress)
        return trainee, batches(recipe, trainee, tokens)[0], Stepper
    from workbench.training.finetune import trial

    return trial(recipe)


def _disk_gb(model: torch.nn.Module, settings: Optimisation) -> float:
    """GiB of all kept checkpoints: float32 weights, and two moments each in the newest two."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    due = [s for s in range(1, settings.steps + 1) if checkpoints.due(s, settings)]
    stay = {
        *due[-max(checkpoints.WITH_STATE, settings.keep) :],
        *(set(due) & checkpoints.series(settings)),
    }
    n_weights = len(stay) + 1  # the best one may be another
    n_moments = 2 * min(len(stay), checkpoints.WITH_STATE)
    return 4 * trained * (n_weights + n_moments) / 2**30


def _free_gb(folder: Path) -> float:
    return shutil.disk_usage(folder).free / 2**30


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
