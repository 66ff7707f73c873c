"""Hooks on the modules of transformers that more than one room registers."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def entering(change: Callable[[Tensor], Tensor]) -> Any:
    """A pre-hook (`with_kwargs`) that changes the stream that enters a module.

    Some families give it by name, others as the first argument.
    """

    def hook(_module: nn.Module, args: tuple, kwargs: dict) -> Any:
        if args and isinstance(args[0], Tensor):
            return (change(args[0]), *args[1:]), kwargs
        name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
        return args, {**kwargs, name: change(kwargs[name])}

    return hook
