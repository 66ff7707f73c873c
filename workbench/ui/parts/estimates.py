"""A table of estimates: right of each number stands its 95 % interval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import streamlit as st

from workbench.statistics.words import bracketed


class Estimated(NamedTuple):
    """An estimate in a table.

    - `value`, `low`, `high`: the columns with the estimate and the ends of its interval, "" for
        none
    - `title`: what the head of the column says; "" for the column's name
    - `help`: one more sentence, shown at the head
    """

    value: str
    low: str = ""
    high: str = ""
    title: str = ""
    help: str = ""


def estimates(
    frame: pd.DataFrame,
    estimated: Sequence[Estimated],
    titles: Mapping[str, str] | None = None,
    rows: int = 10,
    digits: int = 3,
) -> None:
    """Show a table with one column of text in the place of each pair of ends.

    An estimate whose ends the table does not have gets no such column.

    Args:
        frame: The numbers; columns that no estimate names are shown as they are.
        estimated: The estimates.
        titles: What the heads of other columns say.
        rows: How many are in view at most; the table scrolls to the others.
        digits: Of estimates and their intervals, after the point.
    """
    with_ends = [e for e in estimated if e.low in frame]
    shown = frame.drop(columns=[e.high for e in with_ends])
    columns: dict = {name: st.column_config.Column(title) for name, title in (titles or {}).items()}
    for e in estimated:
        columns[e.value] = st.column_config.NumberColumn(
            e.title or e.value, help=e.help or None, format=f"%.{digits}f"
        )
    for e in with_ends:
        ends = zip(frame[e.low], frame[e.high], strict=True)
        shown[e.low] = [bracketed(low, high, f".{digits}f") for low, high in ends]
        columns[e.low] = st.column_config.TextColumn("95 % interval")
    if "p" in shown:
        columns["p"] = st.column_config.NumberColumn(format="%.3f", width=60)
    height = 40 + 36 * min(len(shown), rows)
    st.dataframe(shown, hide_index=True, height=height, column_config=columns)
