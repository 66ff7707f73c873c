"""What the Privacy page shows: the choice of a corpus, what was found, the way home, and how well
it is found.
"""

import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from workbench import paths
from workbench.data import uploads
from workbench.errors import WorkbenchError
from workbench.privacy.measured import FILE, Measured, measure
from workbench.privacy.redacted import write_redacted
from workbench.privacy.scan import Scan, scan
from workbench.training import Recipe
from workbench.training.recipe import names
from workbench.ui.parts.notices import notices
from workbench.ui.parts.progress import with_progress
from workbench.ui.parts.registered import registered

UPLOAD = "an upload"
LARGEST_REDACTED = 50_000_000
"""Bytes of a corpus whose redacted text the page makes; larger ones are the command line's."""


@st.cache_data(max_entries=1, show_spinner=False)
def shelf() -> list[str]:
    """The corpora that recipes of the shelf train on, as far as they are at hand."""
    found = ["generated"]
    for name in names():
        recipe = Recipe.read(name)
        found += recipe.corpus.sources if recipe.kind == "pretrain" else []
    data = paths.data_folder()
    here = [s for s in found if s == "generated" or (data is not None and (data / s).exists())]
    return list(dict.fromkeys(here))


def pick_corpus() -> tuple[str, str]:
    """The corpus to scan, by its path or name, and what a program calls it.

    A file is uploaded; a link cannot name one.

    Raises:
        WorkbenchError: where the URL names a file, or the upload is empty.
    """
    options = [*shelf(), UPLOAD]
    asked = st.query_params.get("corpus")
    if asked and asked not in options:
        registered(asked, "corpus")
        raise WorkbenchError(f"There is no corpus {asked!r}; choose from {', '.join(options)}.")
    chosen = str(st.selectbox("Corpus", options, key="corpus", bind="query-params"))
    if chosen != UPLOAD:
        return chosen, chosen
    given = st.file_uploader(
        "Texts",
        accept_multiple_files=True,
        key="texts",
        help="Text, Markdown, JSON lines, CSV or Parquet. Kept under the home folder of the "
        "workbench; nothing leaves this machine.",
    )
    if not given:
        st.info("Choose a file, or another corpus.", icon=":material/upload_file:")
        st.stop()
    path = uploads.keep([(file.name, file.getvalue()) for file in given])
    return str(path), str(path)


def pick_column(corpus: str) -> str:
    """The column that holds the text, where the corpus is a table; "" elsewhere."""
    path = Path(corpus)
    if not path.is_file() or not uploads.is_table(path):
        return ""
    table = uploads.look_at(path, ("text",))
    columns = list(table.columns)
    guess = table.guess.get("text", "")
    index = columns.index(guess) if guess in columns else 0
    return str(st.selectbox("Column with the text", columns, index=index)) if columns else ""


def scanned(corpus: str, kinds: tuple[str, ...], column: str) -> Scan:
    """What was found, kept for all sessions under the corpus, the kinds and the column."""
    key = ("scan", corpus, kinds, column)
    return with_progress(
        key, lambda report: scan(corpus, kinds or None, column=column, progress=report)
    )


def results(found: Scan) -> None:
    """Numbers of the whole corpus, the table by kind, and the masked examples."""
    notices(found.remarks)
    cells = st.columns(4)
    cells[0].metric("Found", f"{sum(found.counts.values()):,}")
    cells[1].metric(
        "Documents with any",
        f"{found.with_any:,} of {found.n:,}",
        help="A row of a table, or about 2,000 characters of a plain text, as training cuts it.",
    )
    cells[2].metric("Size", f"{found.bytes / 1e6:,.2f} MB", help="UTF-8.")
    speed = found.bytes / 1e6 / max(found.seconds, 1e-9)
    cells[3].metric("Speed", f"{speed:.0f} MB/s", help="On one core, reading included.")
    share = st.column_config.NumberColumn("share of documents", format="percent")
    st.dataframe(found.to_frame(), hide_index=True, column_config={"share": share})
    if found.examples:
        st.markdown("**The first of each kind, masked**")
        st.dataframe(found.examples_frame(), hide_index=True)
        st.caption("Document and position are counted from 0.")


def take_home(found: Scan, corpus: str, name: str, kinds: tuple[str, ...], column: str) -> None:
    """The table as CSV, and the redacted corpus."""
    plain = Path(name).stem or "corpus"
    with st.popover("Download", icon=":material/download:"):
        st.download_button(
            "Numbers (CSV)",
            lambda: found.to_frame().to_csv(index=False),
            file_name=f"privacy-{plain}.csv",
            mime="text/csv",
            on_click="ignore",
            width="stretch",
        )
        if found.bytes > LARGEST_REDACTED:
            st.caption(f"For its redacted text: `workbench scan {plain} --redact OUT`")
            return
        st.download_button(
            "Redacted text",
            lambda: _redacted(corpus, kinds, column),
            file_name=f"redacted-{plain}.txt",
            mime="text/plain",
            on_click="ignore",
            width="stretch",
        )


def _redacted(corpus: str, kinds: tuple[str, ...], column: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = write_redacted(corpus, Path(folder) / "out.txt", kinds or None, column=column)
        return path.read_bytes()


@st.cache_data(max_entries=1, show_spinner=False)
def _measured() -> Measured:
    return measure()


def how_well() -> None:
    """Precision and recall by kind, measured here; said where the labelled set is not at hand."""
    with st.expander("How well each kind is found", icon=":material/fact_check:"):
        data = paths.data_folder()
        if data is None or not (data / FILE).is_file():
            st.caption(
                "Measured on presidio's labelled texts, which are not at hand: set WORKBENCH_DATA "
                f"to a folder that holds {FILE}."
            )
            return
        found = _measured()
        st.dataframe(_table(found), hide_index=True)
        others = ", ".join(f"{label} ({n})" for label, n in found.not_claimed.items())
        st.caption(
            f"{found.n:,} made-up texts ({found.data} of presidio-research); Wilson's 95 % "
            f"intervals. Labelled there and claimed by no kind: {others}."
        )


def _table(found: Measured) -> pd.DataFrame:
    def words(value: float, low: float, high: float) -> str:
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"

    return pd.DataFrame(
        [
            {
                "kind": kind.kind,
                "precision": words(kind.precision, kind.precision_low, kind.precision_high),
                "recall": words(kind.recall, kind.recall_low, kind.recall_high),
                "labelled": kind.found + kind.missed,
                "wrong": kind.wrong,
            }
            for kind in found.kinds
        ]
    )
