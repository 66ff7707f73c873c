"""Horizontal bars in plain HTML, quick to draw: one or two per name, or signed around a middle."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import streamlit as st

from workbench.figures.style import BLUE, ORANGE, RED

_STYLE = """<style>
.bars { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr max-content;
  gap: 3px 10px; align-items: center; font-size: 14px; line-height: 1.35; }
.bars .name { white-space: pre; overflow: hidden; text-overflow: ellipsis; max-width: 12rem;
  unicode-bidi: isolate; }
.bars .name.strong { font-weight: 700; }
.bars .value { text-align: right; font-variant-numeric: tabular-nums; opacity: 0.7;
  font-size: 13px; white-space: pre; }
.bars .track { position: relative; min-width: 3rem; }
.bars .track i { display: block; height: 8px; border-radius: 2px; margin: 1px 0; min-width: 1px; }
.bars .track.signed { border-left: 0;
  --line: color-mix(in srgb, currentColor 25%, transparent);
  background: linear-gradient(var(--line), var(--line)) center / 1px 100% no-repeat; }
.key { font-size: 13px; opacity: 0.7; margin: 0 0 6px; }
.key i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 4px 0 0; }
.key span { margin-right: 14px; }
</style>"""
COLOURS = (BLUE, ORANGE)


class Bar(NamedTuple):
    """A row of `bars`.

    `values` holds one value, or one for each of the two things compared; `written` is the text
    beside the bar; `strong` prints the name in bold.
    """

    name: str
    values: tuple[float | None, ...]
    written: str
    strong: bool = False


def bars(
    rows: Sequence[Bar], *, signed: bool = False, of: Sequence[str] = (), full: float = 0.0
) -> None:
    """Show rows of bars.

    Args:
        rows: From top to bottom.
        signed: Bars start at a middle line: red to the left below 0, blue to the right above.
        of: What a row's values belong to, for a legend above.
        full: The value of a bar of full length; 0 for the largest value.
    """
    largest = max((abs(v) for row in rows for v in row.values if v is not None), default=0.0)
    full = full or largest or 1.0
    kind = "track signed" if signed else "track"
    lines = []
    for row in rows:
        drawn = "".join(
            _drawn(v, c, full, signed) for v, c in zip(row.values, COLOURS, strict=False)
        )
        name = escape(row.name)
        look = "name strong" if row.strong else "name"
        lines.append(
            f'<div class="{look}" title="{name}">{name}</div>'
            f'<div class="{kind}">{drawn}</div>'
            f'<div class="value">{escape(row.written)}</div>'
        )
    names = "".join(
        f'<span><i style="background:{c}"></i>{escape(n)}</span>'
        for n, c in zip(of, COLOURS, strict=False)
    )
    legend = f"<p class=key>{names}</p>" if of else ""
    st.html(f'{_STYLE}{legend}<div class="bars">{"".join(lines)}</div>')


def _drawn(value: float | None, colour: str, full: float, signed: bool) -> str:
    if value is None:
        return "<i></i>"
    share = min(1.0, abs(value) / full) * 100
    if not signed:
        return f'<i style="width:{share:.1f}%;background:{colour}"></i>'
    half = share / 2
    left = 50 - half if value < 0 else 50
    side = RED if value < 0 else BLUE
    return f'<i style="width:{half:.1f}%;margin-left:{left:.1f}%;background:{side}"></i>'
