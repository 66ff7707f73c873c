"""Figures for a dark page: the same data on dark paper."""

from typing import Any

import plotly.graph_objects as go
from plotly.colors import get_colorscale, sample_colorscale

from workbench.figures import style
from workbench.figures.attention import repainted

PAPER = "#0e1117"
"""The background of a dark page."""
ON_DARK = {
    "white": PAPER,
    "#ffffff": PAPER,
    style.INK: "#e8edf3",
    style.SOFT: "#98a5b3",
    style.RULE: "#2a323c",
    style.PANEL: "#1b222b",
    style.BLUE: "#56a8f5",
    style.ORANGE: "#ff8a3c",
    style.GREEN: "#2fc79e",
    style.PURPLE: "#c49bef",
    style.RED: "#ff7285",
    style.ALARM: "#4a1d24",
}
"""What stands on a dark page for each colour of the common style."""
SEQUENTIAL = ["#161b22", "#19304a", "#1f5689", "#2a6cab", "#5fa5dc", "#f3faff"]
"""From nothing to much, at the places of `style.SEQUENTIAL`."""
DIVERGING = ["#ffb3a6", "#d6604d", "#4a2326", "#161b22", "#19304a", "#3a86c4", "#d6ecff"]
"""Red below 0, nearly the paper at 0, blue above; evenly spaced."""
AS_GIVEN = {"x", "y", "z", "customdata", "ids", "text", "hovertext", "hovertemplate", "source"}
"""Parts of a figure that hold data and no colours."""


def darkened(figure: go.Figure) -> go.Figure:
    """A copy of a figure for a dark page.

    Args:
        figure: In the common style; it stays as it is.
    """
    parts: Any = figure  # plotly's stubs do not know what it holds
    traces = [_trace(trace.to_plotly_json()) for trace in parts.data]
    layout = _recoloured(parts.layout.to_plotly_json())
    return go.Figure(traces, {**layout, "template": "plotly_dark"})


def _trace(trace: dict[str, Any]) -> Any:
    changed = _recoloured(trace)
    if trace["type"] == "image" and trace.get("source"):
        scale = SCALES[_colours(style.SEQUENTIAL)]
        panel = ON_DARK[style.PANEL]
        changed["source"] = repainted(trace["source"], scale, panel, PAPER)
    return changed


def _scales() -> dict[tuple[str, ...], list[list[Any]]]:
    """The dark counterpart of each colour scale of the common style, by the light one's colours."""
    sequential = [[at, c] for (at, _), c in zip(style.SEQUENTIAL, SEQUENTIAL, strict=True)]
    diverging = [[i / (len(DIVERGING) - 1), c] for i, c in enumerate(DIVERGING)]
    # Attention's places are the squares of even steps, which its colours are sampled at.
    steps = [float(at) ** 0.5 for at, _ in style.ATTENTION]
    shades = sample_colorscale(sequential, steps)
    attention = [[at, c] for (at, _), c in zip(style.ATTENTION, shades, strict=True)]
    return {
        _colours(style.SEQUENTIAL): sequential,
        _colours(get_colorscale(style.DIVERGING)): diverging,
        _colours(style.ATTENTION): attention,
        _colours(style.INKED): [[0.0, SEQUENTIAL[0]], [1.0, ON_DARK[style.INK]]],
    }


def _colours(scale: Any) -> tuple[str, ...]:
    return tuple(str(colour) for _, colour in scale)


SCALES = _scales()


def _recoloured(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _entry(name, value) for name, value in part.items() if name != "template"}
    if isinstance(part, list | tuple):
        return [_recoloured(entry) for entry in part]
    return _colour(part) if isinstance(part, str) else part


def _entry(name: str, value: Any) -> Any:
    """A named part of a figure with its colours changed."""
    if name in AS_GIVEN:
        return value
    if name == "colorscale":
        return SCALES.get(_colours(value), value)
    return _recoloured(value)


def _colour(text: str) -> str:
    """A colour's counterpart; any other text as it is."""
    if text in ON_DARK:
        return ON_DARK[text]
    if text.startswith("rgba("):
        *rgb, alpha = text[5:-1].split(",")
        solid = "#" + "".join(f"{int(float(value)):02x}" for value in rgb)
        if solid in ON_DARK:
            return style.translucent(ON_DARK[solid], float(alpha))
    if "color:#" in text:  # a tick label with colours of its own
        for light, changed in ON_DARK.items():
            text = text.replace(f"color:{light}", f"color:{changed}")
    return text
