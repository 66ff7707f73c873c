"""Twelve steps of training, plain and compiled; run in a process of its own, as the checks of
shapes that tests add would be compiled too.

    python tests/compiled_steps.py

Prints a line of JSON: the device, both lists of losses, the graphs that were compiled, and their
breaks. The device is the one that training takes on this machine.
"""

import json
from typing import Any, cast

import torch
from torch._dynamo.utils import counters

from workbench.subjects.gpt import WorkbenchGPTForCausalLM
from workbench.subjects.gpt_config import WorkbenchGPTConfig
from workbench.training.recipe import Optimisation
from workbench.training.stepper import Stepper, Trainee

SHAPE: dict[str, Any] = {"d_vocab": 64, "n_ctx": 32, "n_layers": 2, "n_heads": 2, "d_model": 64}
STEPS = 12


def rows_of(step: int) -> Any:
    """Rows that can be learned: counting modulo 64."""
    start = torch.randint(64, (8, 1), generator=torch.Generator().manual_seed(step))
    ids = (start + torch.arange(33)) % 64
    return ids[:, :-1], ids[:, 1:]


def losses(*, compiled: bool) -> tuple[str, list[float]]:
    """The device, and the loss of each step."""
    torch.manual_seed(0)
    model: Any = WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**SHAPE))
    settings = Optimisation(
        steps=40,
        batch_size=8,
        lr=3e-3,
        warmup=2,
        optimizer="adamw",
        precision="no",
        compile=compiled,
    )
    stepper = Stepper(Trainee(model, cast(Any, None)), settings)
    return stepper.device, [float(stepper.step(rows_of(i), i)[0]) for i in range(STEPS)]


def main() -> None:
    """Print the line."""
    _, plain = losses(compiled=False)
    assert not counters["stats"]
    device, fast = losses(compiled=True)
    graphs = counters["stats"]["unique_graphs"]
    breaks = sum(counters["graph_break"].values())
    row = {"device": device, "plain": plain, "fast": fast, "graphs": graphs, "breaks": breaks}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
