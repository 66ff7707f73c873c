"""What the Privacy page shows: the choice of a corpus, what a scan finds in it, downloads, and how
well each kind is detected.
"""

import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from workbench import paths
from workbench.data import uploads
from workbench.errors import WorkbenchError
from workbench.privacy.letters import letters
from workbench.privacy.measured import FILE, Measured, measure
from workbench.privacy.redacted import write_redacted
from workbench.privacy.scan import Scan, scan
from workbench.privacy.sources import Source
from workbench.training import Recipe
from workbench.training.recipe import names
from workbench.ui.parts.notices import notices
from workbench.ui.parts.progress import with_progress
from workbench.ui.parts.registered import registered

UPLOAD = "an upload"
EXAMPLE = "example letters"
LARGEST_REDACTED = 50_000_000
"""The largest corpus, in bytes, that the page redacts; the command line does larger ones."""


@st.cache_data(max_entries=1, show_spinner=False)
def known_corpora() -> list[str]:
    """The corpora that the shelf's recipes train on and that are on this machine."""
    sources = []
    for name in names():
        recipe = Recipe.read(name)
        if recipe.kind == "pretrain":
            sources += recipe.corpus.sources
    data = paths.data_folder()
    present = [
        source
        for source in sources
        if source == "generated" or (data is not None and (data / source).exists())
    ]
    return list(dict.fromkeys([EXAMPLE, "generated", *present]))


def pick_corpus() -> str:
    """The corpus to scan: its name, or the path of an uploaded file or folder.

    A link can name a known corpus, but never a file.

    Raises:
        WorkbenchError: For a link to an unknown corpus or to a file, and for an empty upload.
    """
    options = [*known_corpora(), UPLOAD]
    linked = st.query_params.get("corpus")
    if linked and linked not in options:
        registered(linked, "corpus")
        raise WorkbenchError(f"There is no corpus {linked!r}; choose from {', '.join(options)}.")
    choice = str(st.selectbox("Corpus", options, key="corpus", bind="query-params"))
    if choice != UPLOAD:
        return choice
    files = st.file_uploader(
        "Texts",
        accept_multiple_files=True,
        key="texts",
        help="Text, Markdown, JSON lines, CSV or Parquet. Kept under the home folder of the "
        "workbench; nothing leaves this machine.",
    )
    if not files:
        st.info("Choose a file, or another corpus.", icon=":material/upload_file:")
        st.stop()
    return str(uploads.keep([(file.name, file.getvalue()) for file in files]))


def pick_column(corpus: str) -> str:
    """The column that holds the text; "" where the corpus is no single table."""
    path = Path(corpus)
    if not path.is_file() or not uploads.is_table(path):
        return ""
    table = uploads.look_at(path, ("text",))
    columns = list(table.columns)
    guess = table.guess.get("text", "")
    index = columns.index(guess) if guess in columns else 0
    return str(st.selectbox("Column with the text", columns, index=index)) if columns else ""


def scanned(corpus: str, kinds: tuple[str, ...], column: str) -> Scan:
    """The scan of a corpus, made once for all sessions for the same corpus, kinds and column."""
    key = ("scan", corpus, kinds, column)
    return with_progress(
        key, lambda report: scan(_source(corpus), kinds or None, column=column, progress=report)
    )


def _source(corpus: str) -> Source:
    """What to scan: the texts of the example, or the corpus of this name."""
    return letters().texts if corpus == EXAMPLE else corpus


def in_python(corpus: str) -> str:
    """The corpus as an argument in Python."""
    return "letters().texts" if corpus == EXAMPLE else repr(corpus)


def results(result: Scan, corpus: str) -> None:
    """Show the numbers of the whole corpus, the table by kind, and the masked examples."""
    notices(result.remarks)
    table = result.to_frame()
    if corpus == EXAMPLE:
        planted = letters().planted
        table.insert(2, "planted", [planted[kind] for kind in table["kind"]])
        st.caption(
            f"{result.n} short letters that the workbench makes up, with {planted.total()} data at "
            "known places. Choose another corpus, or upload your own."
        )
    cells = st.columns(4)
    cells[0].metric("Found", f"{sum(result.counts.values()):,}")
    cells[1].metric(
        "Documents with any",
        f"{result.with_any:,} of {result.n:,}",
        help="A document is a row of a table, or about 2,000 characters of a plain text, as "
        "training cuts it.",
    )
    cells[2].metric("Size", f"{result.bytes / 1e6:,.2f} MB", help="As UTF-8.")
    speed = result.bytes / 1e6 / max(result.seconds, 1e-9)
    cells[3].metric("Speed", f"{speed:.0f} MB/s", help="On one core, reading included.")
    share = st.column_config.NumberColumn("share of documents", format="percent")
    height = 36 * (len(table) + 1) + 4
    st.dataframe(table, hide_index=True, height=height, column_config={"share": share})
    if result.examples:
        st.markdown("**The first of each kind, masked**")
        st.dataframe(result.examples_frame(), hide_index=True)
        st.caption("Document and position are counted from 0.")


def downloads(result: Scan, corpus: str, kinds: tuple[str, ...], column: str) -> None:
    """Show the buttons that download the table as CSV and the redacted corpus."""
    stem = Path(corpus).stem or "corpus"
    with st.popover("Download", icon=":material/download:"):
        st.download_button(
            "Numbers (CSV)",
            lambda: result.to_frame().to_csv(index=False),
            file_name=f"privacy-{stem}.csv",
            mime="text/csv",
            on_click="ignore",
            width="stretch",
        )
        if result.bytes > LARGEST_REDACTED:
            st.caption(
                "This corpus is too large to redact here. On the command line: "
                f"`workbench scan {corpus} --redact OUT`"
            )
            return
        st.download_button(
            "Redacted text",
            lambda: _redacted(corpus, kinds, column),
            file_name=f"redacted-{stem}.txt",
            mime="text/plain",
            on_click="ignore",
            width="stretch",
        )


def _redacted(corpus: str, kinds: tuple[str, ...], column: str) -> bytes:
    """The redacted text of a corpus, in UTF-8."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_redacted(
            _source(corpus), Path(folder) / "out.txt", kinds or None, column=column
        )
        return path.read_bytes()


@st.cache_data(max_entries=1, show_spinner=False)
def _measured() -> Measured:
    return measure()


def detection_quality() -> None:
    """Show precision and recall of each kind, or how to get the labelled texts for them."""
    with st.expander("How well each kind is found", icon=":material/fact_check:"):
        data = paths.data_folder()
        if data is None or not (data / FILE).is_file():
            st.caption(
                "Precision and recall are measured on presidio's labelled texts, which are not "
                f"here. Set WORKBENCH_DATA to a folder that holds {FILE}."
            )
            return
        measured = _measured()
        st.dataframe(_table(measured), hide_index=True)
        others = ", ".join(f"{label} ({n})" for label, n in measured.not_claimed.items())
        st.caption(
            f"Measured on {measured.n:,} made-up texts ({measured.data} of presidio-research), "
            f"with Wilson's 95 % intervals. Labels that no kind covers: {others}."
        )


def _table(measured: Measured) -> pd.DataFrame:
    """One row for each kind, with its numbers as text."""
    return pd.DataFrame(
        [
            {
                "kind": kind.kind,
                "precision": _with_interval(
                    kind.precision, kind.precision_low, kind.precision_high
                ),
                "recall": _with_interval(kind.recall, kind.recall_low, kind.recall_high),
                "labelled": kind.detected + kind.missed,
                "wrong": kind.wrong,
            }
            for kind in measured.kinds
        ]
    )


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
