"""Two prompts token under token, with the tokens that differ marked."""

from collections.abc import Sequence
from html import escape
from itertools import zip_longest

import streamlit as st

from workbench.figures.style import BLUE, RED, visible

_STYLE = """<style>
.pair { overflow-x: auto; padding-bottom: 6px; }
.pair table { border-collapse: collapse; font-size: 13px; line-height: 1.5; }
.pair th { text-align: left; font-weight: 400; opacity: 0.7; padding-right: 10px;
  white-space: nowrap; }
.pair td { padding: 1px 4px; white-space: pre; unicode-bidi: isolate;
  border: 1px solid color-mix(in srgb, currentColor 15%, transparent);
  text-align: center; }
.pair tr.at td { border: 0; font-size: 10px; opacity: 0.6; padding: 0; }
</style>"""


def alignment(clean: Sequence[str], corrupted: Sequence[str]) -> None:
    """Show a table of three rows: positions, clean tokens, corrupted tokens."""
    both = list(zip_longest(clean, corrupted, fillvalue=""))
    at = "".join(f"<td>{i}</td>" for i in range(len(both)))
    rows = [f'<tr class="at"><th></th>{at}</tr>']
    for side, name, colour in ((0, "clean", BLUE), (1, "corrupted", RED)):
        cells = "".join(
            _cell(pair[side], colour if pair[side] and pair[0] != pair[1] else "") for pair in both
        )
        rows.append(f"<tr><th>{name}</th>{cells}</tr>")
    st.html(f'{_STYLE}<div class="pair"><table>{"".join(rows)}</table></div>')


def _cell(token: str, colour: str) -> str:
    style = f' style="background:{colour};color:white"' if colour else ""
    return f"<td{style}>{escape(visible(token)) if token else ''}</td>"
