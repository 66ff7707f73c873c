"""A cache for all sessions on a page's function, within the process's budget of memory."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from workbench import memory

P = ParamSpec("P")
R = TypeVar("R")


def kept(
    name: str, most: int, spinner: str = "", *, weights: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that keeps a function's results for all sessions, as one object each.

    Unlike those of `st.cache_resource`, they give way when the process holds too much. Arguments
    whose names begin with `_` are no part of the key. Nobody may modify a result.

    Args:
        name: What the results are, for people.
        most: Results at most.
        spinner: What the page says while one is computed; "" for nothing.
        weights: Whether the results are models.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        cache = memory.Kept(name, most, weights=weights)
        signature = inspect.signature(function)

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            key = tuple(value for word, value in bound.arguments.items() if word[0] != "_")

            def make() -> R:
                if not spinner or get_script_run_ctx(suppress_warning=True) is None:
                    return function(*args, **kwargs)
                with st.spinner(spinner):
                    return function(*args, **kwargs)

            return cache.made(key, make)

        vars(called)["cache"] = cache
        return called

    return decorate
