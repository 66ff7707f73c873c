"""Long computations on a page: a progress bar, and a cache of results for all sessions."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")
KEPT = 64
"""Results in the cache at most."""


class _Kept:
    def __init__(self) -> None:
        self.results: OrderedDict[Hashable, object] = OrderedDict()
        self.lock = threading.Lock()


@st.cache_resource(show_spinner=False)
def _kept() -> _Kept:
    return _Kept()


def known(key: Hashable) -> bool:
    """Whether `with_progress` has a result for this key already."""
    return key in _kept().results


def kept(key: Hashable) -> Any:
    """The cached result for this key; None where there is none."""
    return _kept().results.get(key)


def with_progress(key: Hashable, work: Callable[[Callable[[float, str], None]], T]) -> T:
    """The result of `work(progress)`, shown with a progress bar; cached by key.

    Unlike with `st.cache_data`, the work may draw on the page while it runs.
    """
    cache = _kept()
    with cache.lock:
        if key in cache.results:
            cache.results.move_to_end(key)
            return cache.results[key]  # pyright: ignore[reportReturnType]
    bar = st.progress(0.0, "Starting")

    def report(fraction: float, words: str) -> None:
        bar.progress(min(1.0, fraction), words)

    try:
        result = work(report)
    finally:
        bar.empty()
    with cache.lock:
        cache.results[key] = result
        while len(cache.results) > KEPT:
            cache.results.popitem(last=False)
    return result
