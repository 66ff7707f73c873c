"""The numbers of a map's cells beside it, at the speed of the mouse.

The browser shows the cell under the mouse, or the one that was clicked, and keeps it in the URL as
`cell`; the page's script does not run for it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from streamlit.components.v2 import component

_HERE = Path(__file__).parent
_component = component(
    "workbench_cell_panel",
    html='<div class="panel"></div>',
    css=(_HERE / "cell_panel.css").read_text(encoding="utf-8"),
    js=(_HERE / "cell_panel.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Cells:
    """What is known about each cell of a map.

    Attributes:
        rows: What each row is called, such as "Layer 3".
        columns: What each column is called, such as "position 5".
        numbers: Texts `[row][column]` by the name of the number.
        words: A line about each column, such as the tokens there; empty for none.
        samples: Numbers `[n, row, column]` behind a cell's, such as one a prompt pair; None for
            none.
        links: Addresses by their words; in both, `{row}` and `{column}` are the cell's.
        python: Code for a cell, with the same names in it; "" for none.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    numbers: Mapping[str, Sequence[Sequence[str]]]
    words: Sequence[str] = ()
    samples: np.ndarray | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    python: str = ""


def cell_panel(cells: Cells, *, chart: str, about: Hashable, key: str, hint: str) -> None:
    """Show the cell under the mouse, or the clicked one, of a map on the same page.

    Args:
        cells: What is shown of each.
        chart: Key of the map's chart, whose cell `[row, column]` is centred at x = column, y = row.
        about: What a chosen cell depends on, such as the prompts: once it changes, none is chosen.
        key: The element's name on the page.
        hint: What is shown while no cell is chosen.
    """
    data: dict[str, Any] = {
        "chart": chart,
        "about": repr(about),
        "hint": hint,
        "rows": list(cells.rows),
        "columns": list(cells.columns),
        "words": list(cells.words) or [""] * len(cells.columns),
        "numbers": {name: [list(row) for row in table] for name, table in cells.numbers.items()},
        "samples": None if cells.samples is None else _rounded(cells.samples),
        "links": dict(cells.links),
        "python": cells.python,
    }
    _component(data=data, key=key)


def head_link(**query: str) -> dict[str, str]:
    """The `links` of a map of heads: each cell's head on the Attention page.

    Args:
        query: What else the page shows, such as the model and the prompt.
    """
    name = "L{row}H{column}"
    address = urlencode({**query, "head": name}, safe="{}")
    return {f"Attention of {name}": f"attention?{address}"}


def cell_texts(*tables: np.ndarray, write: Any) -> list[list[str]]:
    """One text for each cell, written from the numbers that each table has there."""
    return [
        [write(*(float(value) for value in values)) for values in zip(*row, strict=True)]
        for row in zip(*tables, strict=True)
    ]


def _rounded(values: np.ndarray) -> list[Any]:
    """Numbers of four decimals as lists, None where there is none."""
    rounded = np.round(np.asarray(values, dtype=float), 4).astype(object)
    rounded[~np.isfinite(np.asarray(values, dtype=float))] = None
    return rounded.tolist()
