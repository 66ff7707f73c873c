"""What pages call models: a run's title in place of its id."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import streamlit as st

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.store import Store

if TYPE_CHECKING:
    import plotly.graph_objects as go

FRESH = 5
"""Seconds for which a title that was looked up is kept: a box may list hundreds of runs."""
BETWEEN = " · "
"""Between a run's title and its name, in boxes."""
TEXTS = ("name", "x", "y", "text", "hovertext", "labels")
"""Where a trace may name models."""


def store() -> Store:
    """The run store, opened once per process."""
    return _store(str(paths.home()))


@st.cache_resource(show_spinner=False)
def _store(home: str) -> Store:
    return Store()


def titled(text: str) -> str:
    """A text with the titles of runs in place of `run:ID` and `run:ID@STEP`."""
    return _titled(text, str(paths.home())) if "run:" in text else text


@st.cache_data(max_entries=2000, ttl=FRESH, show_spinner=False)
def _titled(text: str, home: str) -> str:
    try:
        return _store(home).titled(text)
    except WorkbenchError:  # a store that cannot be read; other pages say so
        return text


def renamed() -> None:
    """Note that a run has another title now."""
    _titled.clear()


def option(name: str) -> str:
    """A model in a box: `Title · run:ID` for a run, others as they are named."""
    title = titled(name)
    return name if title == name else f"{title}{BETWEEN}{name}"


def bare(chosen: str) -> str:
    """The model's name of what stands in a box or a link."""
    return chosen.rpartition(BETWEEN)[2] if BETWEEN + "run:" in chosen else chosen


def title_figure(figure: "go.Figure") -> "go.Figure":
    """The figure with titles of runs in its legend, axes and words; itself where it names none."""
    if not any("run:" in text for holder, key in _texts(figure) for text in _strings(holder[key])):
        return figure
    figure = type(figure)(figure)
    for holder, key in _texts(figure):
        given = holder[key]
        strings = isinstance(given, str)
        new = [titled(each) if isinstance(each, str) else each for each in _listed(given)]
        holder[key] = new[0] if strings else new
    return figure


def _texts(figure: Any) -> Iterator[tuple[Any, str]]:
    """Every place of a figure where a model may be named: what holds it, and its key there."""
    layout = figure.layout
    axes = [*figure.select_xaxes(), *figure.select_yaxes()]
    titles = [layout.title, layout.legend.title, *(axis.title for axis in axes)]
    yield from ((title, "text") for title in titles if title["text"])
    for note in layout.annotations:
        yield from ((note, key) for key in ("text", "x", "y") if isinstance(note[key], str))
    for axis in axes:
        yield from ((axis, key) for key in ("ticktext", "categoryarray") if axis[key] is not None)
    for trace in figure.data:
        keys = [key for key in TEXTS if key in trace and trace[key] is not None]
        yield from ((trace, key) for key in keys if any(_strings(trace[key])))


def _strings(given: Any) -> list[str]:
    return [each for each in _listed(given) if isinstance(each, str)]


def _listed(given: Any) -> list[Any]:
    """A text alone, or what a flat list or array of objects holds; numbers are left out."""
    if isinstance(given, str):
        return [given]
    if getattr(given, "dtype", None) is not None and given.dtype.kind not in "OU":
        return []
    return [*given] if isinstance(given, list | tuple) or hasattr(given, "dtype") else []
