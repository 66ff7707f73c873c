"""The Compare page's view of any number of models against the base."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from workbench.comparison import Series, series
from workbench.figures import change as draw
from workbench.subjects import Subject, resolve
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.models import alone, choices
from workbench.ui.parts.progress import with_progress
from workbench.ui.parts.titles import bare, option, titled
from workbench.ui.parts.words import called
from workbench.ui.views.benchmarks import decimals


def several(base: Subject, tuned: Subject) -> None:
    """Several view: any number of models compared with the base, one row and one line per model."""
    options = choices()
    known = [name for name in options if name in st.query_params.get_all("also")]
    also = st.multiselect(
        "More models",
        options,
        known,
        format_func=option,
        key="also",
        bind="query-params",
        accept_new_options=True,
    )
    names = list(dict.fromkeys(map(bare, [str(st.session_state["tuned"]), *also])))
    exact = tuple(resolve(name) for name in names)

    def work(report: Callable[[float, str], None]) -> Series:
        with alone(base.hash):  # the other models are loaded for this call only
            return series(base, names, progress=report)

    changes = with_progress(("several", base.hash, tuned.hash, exact), work)
    if changes.table.empty:
        st.info(
            "These models can be compared with the base on benchmarks only.",
            icon=":material/info:",
        )
        return
    table = changes.summary()
    table = table.map(lambda cell: titled(cell) if isinstance(cell, str) else cell)
    table.columns = [str(c).replace("_", " ") for c in table.columns]
    st.dataframe(table, hide_index=True, column_config=decimals(table))
    st.caption(
        f"Each model compared with {called(base.name)} over {table['n'].max()} texts (95 % "
        "intervals): KL(tuned ‖ base) and the difference in loss, nats per token; the head whose "
        "attention changed most (Jensen-Shannon distance) and the layer whose weights did "
        "(relative Frobenius norm)."
    )
    lines: Any = changes.table[changes.table["measure"] == "stream"]
    figures = []
    if len(lines):
        lines = lines.assign(stage=lines["place"].astype(int))
        figure = draw.stage_lines(
            lines, line="subject", value="value", title="|tuned − base| / |base| of the stream"
        )
        figures.append(figure)
        chart(
            figure,
            key="several",
            name="several",
            alt="Relative difference of the stream, a line a model",
        )
    downloads(
        lambda: figures,
        lambda: changes.table,
        name="several",
        title=f"Against {base.name}",
    )
