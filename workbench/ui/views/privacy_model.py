"""What the Privacy page shows of a model: how much of its training rows it knows by heart."""

from typing import TYPE_CHECKING

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.figures import privacy as draw
from workbench.privacy.audit import Audit, audit
from workbench.privacy.exposure import EXACT, SAMPLED, Canary, check_canary
from workbench.privacy.extraction import Extraction
from workbench.statistics.words import bracketed
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cost import seconds_a_token
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.links import page_link
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import note, notices
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import called, interval_text, p_text, percent, roughly, signed
from workbench.ui.views.privacy_heads import exposure_seconds, held

if TYPE_CHECKING:
    from workbench.subjects import Subject

CANARIES = "The code of Anna is {}=31"
"""One that no bundled model has seen, of a hundred possible values."""
DIGITS = "0123456789"
ROWS = 200
"""The most rows of each group."""
QUICK = 4.0
"""Seconds that a computation may take without being asked for."""
HELP = (
    "One a line: a text with {} in the value's place, an equals sign, and the value that was "
    "planted before training; \\n is a line break. Add values that were never planted, to compare."
)


def by_heart() -> None:
    """Choose a model and canaries, and show what the model knows by heart.

    Raises:
        WorkbenchError: For a canary that cannot be measured, and a model that cannot be read.
    """
    left, right = st.columns([2, 3])
    with left:
        name = pick_name()
        alphabet = st.text_input(
            "Characters that values are drawn from", DIGITS, key="alphabet", bind="query-params"
        )
    lines = right.text_area(
        "Canaries", CANARIES, height=124, key="canaries", bind="query-params", help=HELP
    )
    canaries = read_canaries(lines or "", alphabet or "")
    measured(cached_load(name), canaries)
    _same_in_python(name, canaries)


def measured(subject: "Subject", canaries: list[Canary]) -> None:
    """Show the audit of a model, once it is quick or asked for, and what holds a canary."""
    if not canaries and not _has_rows(subject):
        _unknown_rows(subject)
        return
    words = tuple((one.text, one.value, one.alphabet) for one in canaries)
    key = ("audit", subject.hash, subject.name, words)
    seconds = exposure_seconds(subject, canaries) + _row_seconds(subject)
    rows = " and reads its own rows" if _has_rows(subject) else ""
    cost = (
        f"{called(subject.name)} scores every possible value of each canary{rows}: about "
        f"{roughly(seconds)}."
    )
    if not wanted(key, cost, quick=seconds < QUICK):
        return
    with alone(subject.hash):
        result = with_progress(
            key, lambda report: audit(subject, canaries, n=ROWS, progress=report)
        )
    results(result)
    if not result.rows:
        _unknown_rows(subject)
    if canaries:
        held(subject, canaries)


def read_canaries(lines: str, alphabet: str) -> list[Canary]:
    """The canaries that a text names, one a line.

    Args:
        lines: The text.
        alphabet: The characters that all their values are drawn from.

    Raises:
        WorkbenchError: For a line without an equals sign, and for a canary that cannot be measured.
    """
    canaries = []
    for line in lines.splitlines():
        if not line.strip():
            continue
        text, equals, value = line.rpartition("=")
        if not equals:
            raise WorkbenchError(
                f"The line {line!r} names no value; write it after an equals sign, as in "
                f"{CANARIES}."
            )
        canary = Canary(text.replace("\\n", "\n"), value.strip(), alphabet)
        check_canary(canary)
        canaries.append(canary)
    return canaries


def results(result: Audit) -> None:
    """Show exposures, the ROC curve and verbatim extraction, each with its intervals."""
    notices(result.remarks)
    left, right = st.columns(2, gap="medium")
    if result.exposures:
        with left:
            exposures = draw.exposures(result.exposures)
            chart(exposures, key="exposures", name="exposures", alt="The exposure of each canary")
            st.caption(_exposure_words(result))
    if result.attacks:
        with right if result.exposures else left:
            curve = draw.roc(result.attacks)
            chart(curve, key="roc", name="membership", alt="The ROC curve of both attacks")
            st.caption(_attack_words(result))
    if result.extraction is not None:
        extracted(result.extraction)
    table = result.to_frame()
    with st.expander("All numbers", icon=":material/table:"):
        shown = Estimated("value", "low", "high")
        estimates(table.loc[:, ["measure", "of", "value", "low", "high", "n"]], [shown])
    figures = [draw.exposures(result.exposures)] if result.exposures else []
    figures += [draw.roc(result.attacks)] if result.attacks else []
    downloads(
        lambda: figures, lambda: table, name="memorisation", title=f"Audit of {result.subject}"
    )


def _exposure_words(result: Audit) -> str:
    """What exposure means, and how it was measured."""
    exact = all(one.exact for one in result.exposures)
    how = (
        "Every possible value was scored, so there is no sampling error."
        if exact
        else f"Estimated from {SAMPLED:,} random values where there are more than {EXACT:,}; bars "
        "are 95 % intervals."
    )
    return (
        "How many bits the model gives away of a value: log2 of the number of possible values, "
        "minus log2 of the value's rank among them by likelihood. A value that was never seen has "
        f"1.4 bits on average, below 3 in seven of eight cases. {how}"
    )


def _attack_words(result: Audit) -> str:
    """The rows, and the rate at 1 % false alarms."""
    best = max(result.attacks, key=lambda attack: attack.auc)
    rate = (
        best.reason
        if best.reason
        else f"At 1 % false alarms {draw.score_name(best.name)} finds "
        f"{interval_text(best.tpr, best.tpr_low, best.tpr_high)} of the trained rows."
    )
    alike = (
        ""
        if result.remarks
        else "Training divides a run's documents at random, so the groups differ in membership "
        "alone. "
    )
    return (
        f"{best.n_trained} trained and {best.n_held_out} held-out rows: {result.rows}. "
        f"{alike}{rate}"
    )


def extracted(result: Extraction) -> None:
    """Show how many rows are reproduced, with examples."""
    st.markdown(
        f"**Verbatim.** Given the first {result.prefix} tokens of a row, does the model write the "
        f"next {result.continuation} as they stand there?"
    )
    columns = st.columns(3)
    for column, words, share in (
        (columns[0], "Trained rows reproduced", result.trained),
        (columns[1], "Held-out rows reproduced", result.held_out),
    ):
        column.metric(words, percent(share.value))
        column.caption(f"{bracketed(share.low, share.high)}, n = {share.n}")
    gap = result.difference
    columns[2].metric("Difference", signed(gap.difference))
    columns[2].caption(f"{bracketed(gap.low, gap.high, signed)}, {p_text(gap.p)}")
    own = result.trained_tokens
    other = result.held_out_tokens
    st.caption(
        f"Tokens in a row that are right before the first wrong one: "
        f"{interval_text(own.value, own.low, own.high)} in trained rows, "
        f"{interval_text(other.value, other.low, other.high)} in held-out rows."
    )
    if result.examples:
        with st.expander("Rows that were reproduced", icon=":material/format_quote:"):
            for text in result.examples:
                st.code(text, language=None, wrap_lines=True)
            st.caption("Personal data and secrets that a scan finds are masked.")


def _has_rows(subject: "Subject") -> bool:
    """Whether the model is a run, which knows its own rows."""
    return subject.name.startswith("run:")


def _unknown_rows(subject: "Subject") -> None:
    """Say that the rows are unknown, and what to do."""
    note(
        f"The rows that {subject.name} was trained on are unknown here, so membership and "
        "verbatim extraction are not measured; choose a run of yours, or give texts of both kinds "
        "to wb.audit."
    )
    page_link("train", "Train a model", icon=":material/model_training:")


def _row_seconds(subject: "Subject") -> float:
    """Seconds that a run's own rows take, about: each is scored, and half of it written."""
    if not _has_rows(subject):
        return 0.0
    return 4 * ROWS * subject.n_ctx * seconds_a_token(subject.hash, subject)


def _same_in_python(name: str, canaries: list[Canary]) -> None:
    """The Python that does the same."""
    lines = [f"    wb.Canary({one.text!r}, {one.value!r}, {one.alphabet!r})," for one in canaries]
    body = "\n".join(lines)
    code = f"""\
import workbench as wb

model = wb.load({name!r})
canaries = [
{body}
]
print(wb.audit(model, canaries, n={ROWS}).to_frame())
for canary in canaries[:1]:
    held = wb.holders(model, canary)
    print(held.to_frame().head(10), held.removed_frame())
"""
    same_in_python(code)
