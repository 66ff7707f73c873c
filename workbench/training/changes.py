"""The words of `[train]` as keyword arguments: typed for editors, spelt out in signatures."""

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar, get_type_hints

from workbench.training.recipe import Recipe

P = ParamSpec("P")
R = TypeVar("R")


class Changes(TypedDict, total=False):
    """Words of `[train]` that replace a recipe's own: the fields of `Optimisation`, all of them
    optional.
    """

    steps: int
    batch_size: int
    lr: float
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
    compile: bool
    checkpointing: bool
    sharded: bool
    eval_every: int
    eval_tokens: int
    checkpoint_every: int
    keep: int
    series: int
    seed: int


def with_changes(function: Callable[P, R]) -> Callable[P, R]:
    """Write a function's `**changes` out in its signature: a keyword a word of `[train]`, None for
    the recipe's own.
    """
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    words = [
        inspect.Parameter(
            word, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind | None
        )
        for word, kind in get_type_hints(Changes).items()
    ]
    function.__signature__ = signature.replace(parameters=[*own, *words])  # pyright: ignore[reportFunctionMemberAccess]
    return function


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with other values in `[train]`; None keeps its own.

    Raises `WorkbenchError` for a key or a value that it does not take.
    """
    values = recipe.to_dict()
    given = {key: value for key, value in changes.items() if value is not None}
    return Recipe.from_dict({**values, "train": {**values["train"], **given}})
