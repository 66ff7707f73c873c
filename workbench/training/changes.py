"""The keys of a recipe's `[train]` table as keyword arguments: typed, and shown in signatures."""

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar, get_type_hints

from workbench.training.recipe import Recipe

P = ParamSpec("P")
R = TypeVar("R")


class Changes(TypedDict, total=False):
    """Keys of `[train]` that override a recipe: the fields of `Optimisation`, all optional."""

    steps: int
    batch_size: int
    lr: float
    embedding_lr: float
    warmup: int
    decay: float
    weight_decay: float
    clip: float
    optimizer: str
    schedule: str
    min_lr: float
    momentum: float
    beta2: float
    ema: float
    accumulate: int
    precision: str
    compile: bool | None
    checkpointing: bool
    sharded: bool
    eval_every: int
    eval_tokens: int
    checkpoint_every: int
    keep: int
    series: int
    seed: int


def with_changes(function: Callable[P, R]) -> Callable[P, R]:
    """Replace `**changes` in a function's signature by one keyword for each key of `[train]`.

    Each keyword defaults to None, which keeps the recipe's own value.
    """
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    words = [
        inspect.Parameter(
            word, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind | None
        )
        for word, kind in get_type_hints(Changes).items()
    ]
    described: Any = function  # a function takes attributes that its type does not have
    described.__signature__ = signature.replace(parameters=[*own, *words])
    return function


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """A copy of the recipe with other values in `[train]`.

    Args:
        recipe: Is not changed.
        changes: New values by key; None keeps the recipe's own.

    Raises:
        WorkbenchError: For an unknown key or a value out of range.
    """
    values = recipe.to_dict()
    given = {key: value for key, value in changes.items() if value is not None}
    return Recipe.from_dict({**values, "train": {**values["train"], **given}})
