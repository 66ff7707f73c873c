"""The common style of all figures: colours, fonts, head names, and tokens made visible.

Keys (sources) run along x, queries (destinations) and layers down y. Effects are drawn in RdBu
centred at 0, attention in one hue from white; both are safe for colour-blind readers.
"""

import html
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

INK = "#1c2733"
"""Text."""
SOFT = "#5d6b7a"
"""Secondary text and reference lines."""
RULE = "#e3e8ee"
"""Grid lines."""
PANEL = "#f3f5f8"
"""Background of maps, and of cells without a number."""

ALARM = "#fbdcdc"
"""Background of a figure that is not to be believed."""

LEGEND_AT_BOTTOM = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "yref": "container",
    "y": 0,
    "yanchor": "bottom",
}
"""A legend at the lower edge of the figure, which long titles do not reach at any width."""

BLUE = "#2166ac"
ORANGE = "#d55e00"
GREEN = "#00866a"
PURPLE = "#7b4fa3"
RED = "#c0263c"
SKY = "#56b4e9"
LINES = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)
"""Colours of lines, in order (after Okabe and Ito)."""

SEQUENTIAL = [
    [0.0, "#ffffff"],
    [0.15, "#dbe9f6"],
    [0.35, "#a3cbe7"],
    [0.55, "#5ba3d3"],
    [0.78, "#1d6cb1"],
    [1.0, "#08306b"],
]
"""Colour scale of shares and other numbers from 0 up: white is 0."""

INKED = [[0.0, "#ffffff"], [1.0, INK]]
"""Colour scale of a picture's grey levels, from paper to ink."""

ATTENTION = [
    [float(v), c]
    for v, c in zip(
        np.linspace(0, 1, 21) ** 2,
        sample_colorscale(SEQUENTIAL, np.linspace(0, 1, 21).tolist()),
        strict=True,
    )
]
"""Colour scale of attention from 0 to 1: by the square root, so that weak patterns are visible too.
"""

SHARES = (0, 0.1, 0.25, 0.5, 1)
"""Ticks of attention's colour bar, far enough apart on its square-root scale."""

CLEAR = 8
"""Pixels between a reference line and its label; a saved figure may have a wider font."""

DIVERGING = "RdBu"
"""Colour scale of effects: red below 0, white at 0, blue above."""

FONT = "'Source Sans 3', 'Source Sans Pro', 'Source Sans', Inter, system-ui, 'Segoe UI', sans-serif"

_AXIS = {
    "gridcolor": "#EBF0F8",
    "linecolor": "#EBF0F8",
    "ticks": "",
    "title": {"standoff": 15},
    "zerolinecolor": "#EBF0F8",
    "zerolinewidth": 2,
    "automargin": True,
}
_BAR = {"colorbar": {"outlinewidth": 0, "ticks": ""}}
TEMPLATE = go.layout.Template(
    layout={
        "autotypenumbers": "strict",
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "coloraxis": _BAR,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    },
    data={
        "heatmap": [_BAR],
        "bar": [{"marker": {"line": {"color": "white", "width": 0.5}}}],
    },
)
"""What figures take from Plotly's white template; copying all of it would take longer than the
rest of a figure."""

_SIGNS = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}


def visible(token: str) -> str:
    """A token with spaces, line ends and unprintable characters made visible: " the" is "·the"."""
    shown = "".join(_SIGNS.get(c) or _printable(c) for c in token)
    if shown and unicodedata.combining(shown[0]):
        return f"◌{shown}"  # a lone accent needs something to sit on
    return shown or "∅"


def _printable(character: str) -> str:
    return character if character.isprintable() else f"⟨{ord(character):X}⟩"


def escaped(text: str) -> str:
    """Text that Plotly shows literally: no HTML, no LaTeX, and its text direction isolated."""
    return f"\u2068{html.escape(text).replace('$', '&#36;')}\u2069"


def labels(tokens: Sequence[str], longest: int = 14) -> list[str]:
    """One axis label a position: the token, cut to `longest` characters, and the position."""
    shown = [visible(t) for t in tokens]
    cut = [t if len(t) <= longest else f"{t[: longest - 1]}…" for t in shown]
    return [f"{escaped(t)} <sub>{i}</sub>" for i, t in enumerate(cut)]


def head_name(layer: int, head: int) -> str:
    """A head's name in text and figures, such as "L3H1"."""
    return f"L{layer}H{head}"


def figure(
    traces: Iterable[Any] = (), *, title: str = "", height: int = 420, **layout: Any
) -> go.Figure:
    """A figure in the common style.

    Args:
        traces: Of the figure.
        title: Of the figure.
        height: In pixels.
        **layout: Further entries of Plotly's layout, in place of the common ones.
    """
    axis = {
        "title": {"font": {"size": 12, "color": SOFT}},
        "tickfont": {"size": 11},
        "gridcolor": RULE,
        "zeroline": False,
        "automargin": True,
    }
    common = {
        "template": TEMPLATE,
        "title": {
            "text": title,
            "font": {"size": 14, "color": INK},
            "x": 0.01,
            "xref": "container",
            "xanchor": "left",
        },
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 40 if title else 12, "b": 48},
        "hoverlabel": {
            "bgcolor": "white",
            "bordercolor": SOFT,
            "font": {"family": FONT, "size": 13, "color": INK},
        },
        "colorway": list(LINES),
        "legend": {"orientation": "h", "y": 1.02, "x": 1, "xanchor": "right", "yanchor": "bottom"},
        "xaxis": axis,
        "yaxis": axis,
    }
    # All at once, because Plotly validates the figure again at every later change.
    return go.Figure(list(traces), {**common, **layout})


def colour_bar(title: str, **more: Any) -> dict[str, Any]:
    """Settings of a slim colour bar at the right, with its title along it."""
    return {
        "title": {"text": title, "side": "right", "font": {"size": 11, "color": SOFT}},
        "thickness": 10,
        "outlinewidth": 0,
        "tickfont": {"size": 10},
        **more,
    }


def add_band(
    figure: go.Figure, x: np.ndarray, low: np.ndarray, high: np.ndarray, *, colour: str, name: str
) -> None:
    """Shade an interval along a line, in place.

    Args:
        figure: To draw on.
        x: Places along x.
        low: Lower ends; NaN for none.
        high: Upper ends.
        colour: Of the line, as "#rrggbb".
        name: Legend group of the line; the band shows and hides with it.
    """
    known = ~(np.isnan(np.asarray(low, dtype=float)) | np.isnan(np.asarray(high, dtype=float)))
    if not known.any():
        return
    x, low, high = (np.asarray(part)[known] for part in (x, low, high))
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        mode="lines",  # few points would get markers by default
        fill="toself",
        fillcolor=translucent(colour, 0.18),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
    )


def translucent(colour: str, alpha: float) -> str:
    """A "#rrggbb" colour with transparency, as Plotly's "rgba(...)"."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
