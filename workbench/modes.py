"""The torch state in which every public function runs, set on entry and restored afterwards.

A caller may have switched gradients off, entered inference mode or autocast, changed the default
dtype or device, or left a model in train mode. Results must not depend on any of this, and the
caller must find everything unchanged.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from workbench import threads
from workbench.allocator import keep_freed
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from torch import nn

P = ParamSpec("P")
R = TypeVar("R")


def own_modes(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator that runs a function in `modes`, with the Subjects it is given in eval mode.

    Raises:
        WorkbenchError: For a model that was made in inference mode.
    """

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with modes(_models([*args, *kwargs.values()])):
            keep_freed()
            threads.fit()
            return function(*args, **kwargs)

    return inside


@contextmanager
def modes(models: Iterable["nn.Module"] = ()) -> Iterator[None]:
    """Torch's initial state: gradients on, no inference mode, no autocast, float32, CPU.

    Random number generators and the models' flags are restored at the end. Whether algorithms are
    deterministic is left to the caller.

    Args:
        models: Models to put into eval mode, with weights that require no gradient.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_float32())
        stack.enter_context(_same_chance())
        for model in models:
            stack.enter_context(_evaluating(model))
        yield


def _models(values: Iterable[Any]) -> list["nn.Module"]:
    """The models of the Subjects among some arguments, in lists too.

    Raises:
        WorkbenchError: For a model that was made in inference mode, whose weights can only be read.
    """
    from workbench.subjects.encoder import Encoder
    from workbench.subjects.subject import Subject

    models = []
    for value in values:
        inside = value if isinstance(value, list | tuple) else [value]
        for subject in (part for part in inside if isinstance(part, Subject | Encoder)):
            if any(parameter.is_inference() for parameter in subject.model.parameters()):
                raise WorkbenchError(
                    f"{subject.name} was made under torch.inference_mode(), so no gradient or view "
                    "can be had of its weights; make it outside of inference mode, or load it by "
                    "name."
                )
            models.append(subject.model)
    return models


@contextmanager
def _float32() -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    if before != torch.float32:
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        if before != torch.float32:
            torch.set_default_dtype(before)


@contextmanager
def _same_chance() -> Iterator[None]:
    """Restores the global random number generators of torch, NumPy and Python afterwards."""
    import numpy as np
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    drawn = np.random.get_state()
    shuffled = random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(drawn)
            random.setstate(shuffled)


@contextmanager
def _evaluating(model: "nn.Module") -> Iterator[None]:
    """The model in eval mode without gradients of its weights; only differing flags are set."""
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for module in training:
        module.training = False
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)
