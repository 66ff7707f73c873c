"""Charts and downloads on pages: show a figure, react to a click on it, and download it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from workbench.ui.parts.titles import title_figure, titled

if TYPE_CHECKING:  # Home draws nothing and must not wait for Plotly
    import pandas as pd
    import plotly.graph_objects as go

FIRST_WIDTH = 540
"""Pixels across a chart before it is fitted to its place."""
LONGEST_TITLE = 54
"""Characters of a title that fit on a phone; a longer one takes two lines."""
LONGEST_AXIS = 43
"""The same for the title of an axis, which is centred below the plot alone."""
LINE = 17
"""Pixels of a line of a title."""


def chart(
    figure: "go.Figure",
    *,
    key: str,
    name: str,
    on_click: Callable[[Any], None] | None = None,
    alt: str = "",
) -> None:
    """Show a figure; its camera button saves it as SVG or PNG, as chosen in the sidebar.

    Args:
        figure: The figure; one with a width of its own keeps it.
        key: Of the widget.
        name: File name, without ending, of what the camera button saves.
        on_click: Called with the `customdata` of a clicked point, or None when it is deselected.
        alt: Description for screen readers.
    """
    figure = themed(title_figure(figure))
    in_two_lines(figure)
    config = {
        "displaylogo": False,
        "toImageButtonOptions": {"format": _image(), "filename": name, "scale": 2},
    }
    more: dict[str, Any] = {}
    if on_click is not None:
        more = {"on_select": lambda: _clicked(key, on_click), "selection_mode": "points"}
    more |= {"theme": None, "key": key, "config": config, "alt": alt or None}
    layout: Any = figure.layout
    if layout.width:
        st.plotly_chart(figure, width="content", **more)
        return
    # A chart without a width stays hidden until the browser has measured its place, which a busy
    # browser may miss. The figure itself is sent, not a dictionary of it: that would be validated
    # again, which takes longer than everything else.
    layout.width = FIRST_WIDTH
    try:
        st.plotly_chart(figure, width="stretch", **more)
    finally:
        layout.width = None


def in_two_lines(figure: "go.Figure") -> None:
    """Break the figure's title and those of its horizontal axes where they are long, in place."""
    layout: Any = figure.layout
    if _break(layout.title, LONGEST_TITLE):
        layout.margin.t = (layout.margin.t or 0) + LINE
    axes: list[Any] = list(figure.select_xaxes())
    broken = [_break(axis.title, LONGEST_AXIS) for axis in axes]
    if any(broken):
        layout.margin.b = (layout.margin.b or 0) + LINE


def _break(title: Any, longest: int) -> bool:
    """Whether a title is longer than `longest`; then it is broken at the space nearest its middle.

    A title with marks of its own, such as a break from an earlier time, is left alone.
    """
    text = title.text
    if not text or len(text) <= longest or "<" in text or " " not in text:
        return False
    spaces = [i for i, letter in enumerate(text) if letter == " "]
    middle = min(spaces, key=lambda i: abs(i - len(text) / 2))
    title.text = f"{text[:middle]}<br>{text[middle + 1 :]}"
    return True


def themed(figure: "go.Figure") -> "go.Figure":
    """The figure as it is, or its dark counterpart where the page is dark."""
    if st.context.theme.type != "dark":
        return figure
    from workbench.figures.dark import darkened

    return darkened(figure)


def _clicked(key: str, on_click: Callable[[Any], None]) -> None:
    points = st.session_state[key].selection.points
    on_click(points[0]["customdata"] if points else None)


def choose_image_format() -> None:
    """A control for what the camera button on every figure saves."""
    st.segmented_control(
        "The camera on a figure saves",
        ["SVG", "PNG"],
        default="SVG",
        key="image_format",
        persist_state="session",
        required=True,
    )


def _image() -> str:
    return str(st.session_state.get("image_format") or "SVG").lower()


def downloads(
    figures: Callable[[], "Sequence[go.Figure]"],
    table: Callable[[], "pd.DataFrame"],
    *,
    name: str,
    title: str,
    text: str = "",
) -> None:
    """A download menu: the numbers as CSV, the figures as one HTML file.

    Args:
        figures: Called for the figures when the HTML file is requested.
        table: Called for the numbers when the CSV file is requested.
        name: File name, without ending.
        title: Title of the HTML page.
        text: A line below the title.
    """
    from workbench.figures.export import to_html

    with st.popover("Download", icon=":material/download:"):
        st.download_button(
            "Numbers (CSV)",
            lambda: table().to_csv(index=False),
            file_name=f"{name}.csv",
            mime="text/csv",
            on_click="ignore",
            width="stretch",
        )
        st.download_button(
            "Interactive page (HTML, needs no network)",
            lambda: to_html(
                [title_figure(figure) for figure in figures()], title=titled(title), text=text
            ),
            file_name=f"{name}.html",
            mime="text/html",
            on_click="ignore",
            width="stretch",
        )
