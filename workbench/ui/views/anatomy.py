"""The overview of the Anatomy page: all steps small, in five stages, one of which is open."""

from collections.abc import Sequence
from html import escape

import streamlit as st

from workbench.figures.anatomy import thumbnail
from workbench.interp.anatomy.decoder import Step

FIRST = "Into the layer"
LAST = "Back into the stream"
BEGINS = {
    "Query": "Query, key, value",
    "Scores": "Who looks at whom",
    "Weighted sum": "What the head writes",
}
"""The step that begins a stage, and the stage's title."""
OPEN = "Who looks at whom"
STYLE = """<style>
.steps { display: flex; flex-wrap: wrap; gap: 0.75rem; }
.steps section { border: 1px solid color-mix(in srgb, currentColor 18%, transparent);
  border-radius: 0.5rem; padding: 0.5rem 0.7rem; }
.steps section.open { border: 2px solid #eb6834; padding: calc(0.5rem - 1px) calc(0.7rem - 1px); }
.steps h4 { font-size: 0.85rem; margin: 0 0 0.4rem; padding: 0; }
.steps ol { display: flex; flex-wrap: wrap; gap: 0.6rem; list-style: none; margin: 0; padding: 0; }
.steps li { font-size: 0.72rem; line-height: 1.2; margin: 0; width: 4.8rem; }
.steps img { display: block; height: 2.9rem; image-rendering: pixelated; margin-bottom: 0.2rem;
  outline: 1px solid color-mix(in srgb, currentColor 18%, transparent); width: 100%; }
</style>"""

Numbered = list[tuple[int, Step]]


def stages(steps: Sequence[Step]) -> dict[str, Numbered]:
    """The steps of every stage with their numbers from 1, by the stage's title."""
    grouped: dict[str, Numbered] = {}
    title = FIRST
    for number, step in enumerate(steps, 1):
        title = BEGINS.get(step.name, title)
        if step.name == "Residual stream" and title != FIRST:
            title = LAST
        grouped.setdefault(title, []).append((number, step))
    return grouped


def open_stage(steps: Sequence[Step]) -> tuple[str, Numbered]:
    """Show all steps small, and the choice of a stage; the title and the steps of the chosen one.

    Args:
        steps: All steps of an anatomy.
    """
    grouped = stages(steps)
    picture = st.empty()  # above the choice that it shows
    title = st.segmented_control(
        "Stage",
        list(grouped),
        default=OPEN,
        key="stage",
        bind="query-params",
        required=True,
    )
    picture.html(STYLE + _overview(grouped, str(title)))
    return str(title), grouped[str(title)]


def _overview(grouped: dict[str, Numbered], chosen: str) -> str:
    sections = []
    for title, numbered in grouped.items():
        items = "".join(
            f'<li><img alt="" src="{thumbnail(step.values, over_keys=step.over_keys)}">'
            f"{number}. {escape(step.name)}</li>"
            for number, step in numbered
        )
        state = ' class="open"' if title == chosen else ""
        sections.append(f"<section{state}><h4>{escape(title)}</h4><ol>{items}</ol></section>")
    return f'<div class="steps">{"".join(sections)}</div>'
