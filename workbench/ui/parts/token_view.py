"""The prompt as text, coloured by a head's attention from or to the token under the cursor.

The one component written by hand: Streamlit has no text that answers the mouse. Tokens reach the browser as
data and are put on the page as text, never as HTML.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from streamlit.components.v2 import component

from workbench.figures.style import visible

_HERE = Path(__file__).parent
_component = component(
    "workbench_token_view",
    html='<div class="view"></div>',
    css=(_HERE / "token_view.css").read_text(encoding="utf-8"),
    js=(_HERE / "token_view.js").read_text(encoding="utf-8"),
)


def token_view(pattern: Float[np.ndarray, "query key"], tokens: Sequence[str], *, name: str, key: str) -> None:
    """Show the tokens; hovering one colours the others by the head's attention, a click holds it."""
    levels = np.round(pattern.clip(0, 1) * 65535).astype("<u2")  # 16 bits: a long prompt stays a small message
    data = {
        "name": name,
        "tokens": [visible(t) for t in tokens],
        "breaks": [i for i, t in enumerate(tokens) if "\n" in t],
        "pattern": base64.b64encode(levels.tobytes()).decode(),
    }
    _component(data=data, key=key)
