"""Long computations on a page: a bar with the time left, a Stop button, a cache for all sessions.

A link cannot press a button, so what takes long starts only after `wanted` has asked.
"""

import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import streamlit as st

from workbench import memory
from workbench.ui.parts.words import roughly

T = TypeVar("T")
KEPT = 64
"""Results in the cache at most."""
PATIENCE = 2.0
"""Seconds after which the time left and the Stop button are shown."""
SURE = 0.03
"""Share of the work after which the time left can be estimated."""


_RESULTS = memory.Kept("results of long computations", KEPT)


def known(key: Hashable) -> bool:
    """Whether `with_progress` has a result for this key already."""
    return key in _RESULTS


def kept(key: Hashable) -> Any:
    """The cached result for this key; None where there is none."""
    return _RESULTS.get(key)


def wanted(
    key: Hashable, cost: str | Callable[[], str], *, quick: bool, button: str = "Start"
) -> bool:
    """Whether to compute now: at once where it is quick, otherwise after a button was pressed.

    Args:
        key: Of the result in `with_progress`.
        cost: What is computed and how long it takes, shown above the button. A function, which may
            measure, is called only where the button is shown.
        quick: Whether it takes a few seconds at most.
        button: Label of the button.
    """
    if quick or started(key):
        return True
    st.info(cost if isinstance(cost, str) else cost(), icon=":material/hourglass_empty:")
    st.button(button, type="primary", key=f"start {hash(key)}", on_click=start, args=(key,))
    return False


def started(key: Hashable) -> bool:
    """Whether this session has started the computation, or its result is known."""
    return known(key) or key in _keys("started")


def start(key: Hashable) -> None:
    """Start the computation in the next run of the script: what a button does when clicked."""
    _keys("started").add(key)
    _keys("stopped").discard(key)


def stop(key: Hashable) -> None:
    """Stop the computation: who started it may start it again, as before."""
    if key in _keys("started"):
        _keys("started").discard(key)
    else:  # it started by itself, so from now on it asks
        _keys("stopped").add(key)


def with_progress(key: Hashable, work: Callable[[Callable[[float, str], None]], T]) -> T:
    """The result of `work(progress)`, shown with a progress bar; cached by key.

    Unlike with `st.cache_data`, the work may draw on the page while it runs. Stop ends the work at
    its next report. After it, what `start` or `wanted` started waits for them again; what started
    by itself has a button to start again.
    """
    nothing = object()
    known_already = _RESULTS.get(key, nothing)
    if known_already is not nothing:
        return known_already
    if key in _keys("stopped"):
        _stopped(key)
    bar = st.empty()
    bar.progress(0.0, "Starting")
    button = st.empty()
    began = time.monotonic()
    offered = False

    def report(fraction: float, words: str) -> None:
        nonlocal offered
        passed = time.monotonic() - began
        bar.progress(min(1.0, fraction), words + time_left(fraction, passed))
        if passed > PATIENCE and not offered:
            offered = True
            button.button(
                "Stop",
                icon=":material/stop_circle:",
                key=f"stop {hash(key)}",
                on_click=stop,
                args=(key,),
            )

    try:
        result = work(report)
    finally:
        bar.empty()
        button.empty()
    _RESULTS.put(key, result)
    return result


def forget(key: Hashable) -> None:
    """Leave a result out of the cache, because it is stored elsewhere."""
    _RESULTS.drop(key)
    _keys("started").discard(key)


def time_left(fraction: float, passed: float) -> str:
    """The time left in words, such as ", about 2 min left"; "" where it cannot be told yet.

    Args:
        fraction: Share of the work that is done.
        passed: Seconds that it took.
    """
    if passed < PATIENCE or not SURE <= fraction < 1:
        return ""
    return f", about {roughly(passed * (1 - fraction) / fraction)} left"


def _keys(kind: str) -> set[Hashable]:
    """Keys of computations that this session has started or stopped."""
    return st.session_state.setdefault(f"{kind} work", set())


def _stopped(key: Hashable) -> None:
    """Offer to start a stopped computation again, and end the script here."""
    st.info("Stopped. What was computed so far is not kept.", icon=":material/stop_circle:")
    st.button("Start again", key=f"again {hash(key)}", on_click=start, args=(key,))
    st.stop()
