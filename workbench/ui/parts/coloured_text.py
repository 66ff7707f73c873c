"""A text whose tokens are coloured by a score."""

from collections.abc import Sequence
from html import escape

import numpy as np
import streamlit as st

from workbench.figures.style import visible
from workbench.ui.parts.wash import signed

_STYLE = """<style>
.coloured { line-height: 2.1; font-size: 15px; }
.coloured span { padding: 3px 3px; margin-right: 1px; border-radius: 3px; white-space: pre;
  unicode-bidi: isolate; display: inline-block; line-height: 1.4; }
.coloured sub { display: block; font-size: 10px; line-height: 1.1; text-align: center;
  opacity: 0.75; }
</style>"""


def coloured_text(tokens: Sequence[str], scores: Sequence[float]) -> None:
    """Show tokens on a scale from red (below 0) to blue (above 0), each with its score below."""
    values = np.asarray(scores, dtype=float)
    limit = float(np.abs(values).max()) or 1.0
    spans = [
        f'<span style="background:{signed(value / limit)}">'
        f"{escape(visible(token))}<sub>{value:+.2f}</sub></span>"
        for token, value in zip(tokens, values, strict=True)
    ]
    st.html(f'{_STYLE}<div class="coloured">{"".join(spans)}</div>')
