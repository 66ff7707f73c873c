"""Freeing memory: what Python, torch and the C library still hold of things that nobody uses."""

import gc
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from workbench.memory import trim


class Freed(NamedTuple):
    """Resident memory of this process in GiB before and after."""

    before_gb: float
    after_gb: float


def free(forget: Callable[[], Any] | None = None) -> Freed:
    """Gives memory back to the machine, and says how much.

    Args:
        forget: Drops the references that its caller holds, such as an app's cache of models.
    """
    import psutil

    process = psutil.Process()
    before = process.memory_info().rss / 2**30
    if forget is not None:
        forget()
    _forget_counts()
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    trim()
    return Freed(before, process.memory_info().rss / 2**30)


def held() -> list[tuple[str, float]]:
    """Models in this process's memory, the largest first: name, and GiB of its parameters.

    A model whose objects the garbage collector does not watch is not in it.
    """
    if "torch" not in sys.modules:
        return []
    from workbench.subjects import Subject

    models = {id(one.model): one for one in gc.get_objects() if type(one) is Subject}
    sizes = [
        (one.name, sum(p.numel() * p.element_size() for p in one.model.parameters()) / 2**30)
        for one in models.values()
    ]
    return sorted(sizes, key=lambda pair: -pair[1])


def _forget_counts() -> None:
    """Empty the tables of counted corpora and tasks, where they were used at all."""
    for name, functions in {
        "workbench.budget.recipes": ("_asked", "_letters"),
        "workbench.budget.suites": ("_tasks",),
    }.items():
        module = sys.modules.get(name)
        for function in functions if module else ():
            getattr(module, function).cache_clear()
