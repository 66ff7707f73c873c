"""The Benchmarks page's views of how far scores can be trusted: published values, calibration."""

import pandas as pd
import streamlit as st

from workbench.benchmarks import Results
from workbench.benchmarks.results.calibration import calibration
from workbench.benchmarks.results.references import references
from workbench.figures.calibration import reliability as draw_reliability
from workbench.store import Run
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.words import escaped, p_text, short_names
from workbench.ui.views.benchmarks import decimals


def published(results: dict[str, Results]) -> None:
    """Published scores of these models beside ours."""
    for name, result in results.items():
        table = references(result)
        if len(table):
            st.markdown(
                f"**Published scores of {escaped(short_names(results)[name])} beside ours**"
            )
            widths = {"why": st.column_config.TextColumn(width="large")}
            st.dataframe(table, hide_index=True, column_config=decimals(table) | widths)
            st.caption(
                "Ours comes with its 95 % interval and n; *why* lists known differences in the "
                "setup."
            )


def reliability(run: Run, results: dict[str, Results]) -> None:
    """Calibration: accuracy over confidence, and the expected calibration error of each model."""
    names = short_names(results)
    tasks = list(dict.fromkeys(task for one in results.values() for task in one.samples["task"]))
    task = st.selectbox("Task", ["all multiple choice", *tasks], key="reliability task")
    chosen = None if task == "all multiple choice" else str(task)
    calibrations = {names[name]: calibration(one.samples, chosen) for name, one in results.items()}
    figure = draw_reliability({name: one.bins for name, one in calibrations.items()})
    chart(figure, key="reliability", name=f"reliability-{run.id}", alt="Accuracy over confidence")
    for name, one in calibrations.items():
        st.markdown(
            f"**{escaped(name)}**: expected calibration error **{one.ece:.3f}** (n = {one.n}; "
            f"{p_text(one.p)} against perfect calibration). A perfectly calibrated model would "
            f"show {one.expected:.3f} on this many items, and at most {one.expected_high:.3f} in "
            "95 % of cases."
        )
    bins = pd.concat([one.bins.assign(model=name) for name, one in calibrations.items()])
    downloads(
        lambda: [figure],
        lambda: bins,
        name=f"reliability-{run.id}",
        title=f"Reliability, {run.title}",
    )
