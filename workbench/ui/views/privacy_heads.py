"""What the Privacy page shows of the heads that hold a canary, and of what removing them costs."""

from math import log2
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from workbench.figures import privacy as draw
from workbench.privacy.exposure import EXACT, SAMPLED, Canary
from workbench.privacy.holders import Holders, holders
from workbench.statistics import Difference
from workbench.statistics.words import bracketed
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cost import seconds_a_token
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.models import alone
from workbench.ui.parts.notices import notices
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.parts.words import called, p_text, roughly, signed

if TYPE_CHECKING:
    from workbench.subjects import Subject

NEIGHBOURS = 24
"""Prompts whose activations are exchanged with the canary's."""
EDITED = 6
"""Edited models whose exposure is measured: three sizes, and three times random heads."""


def held(subject: "Subject", canaries: list[Canary]) -> None:
    """Show which heads hold a canary, and what it costs to take them out."""
    st.subheader("Which heads hold it?")
    names = [one.text.replace("{}", one.value) for one in canaries]
    choice = 0
    if len(names) > 1:
        choice = names.index(str(st.selectbox("Canary", names, key="held")))
    canary = canaries[choice]
    key = ("holders", subject.hash, subject.name, canary.text, canary.value, canary.alphabet)
    seconds = (1 + EDITED) * exposure_seconds(subject, [canary]) + _part_seconds(subject, canary)
    cost = (
        f"Each head and MLP of {called(subject.name)} is exchanged in {NEIGHBOURS} runs, and the "
        f"canary's exposure is measured without the heads that are found: about {roughly(seconds)}."
    )
    if not wanted(key, cost, quick=False, button="Find the heads"):
        return
    with alone(subject.hash):
        result = with_progress(
            key, lambda report: holders(subject, canary, n=NEIGHBOURS, progress=report)
        )
    holding(result)
    removed(result)


def holding(result: Holders) -> None:
    """Show the map of all parts and the table of the first ones."""
    notices(result.remarks)
    left, right = st.columns(2, gap="medium")
    table = result.to_frame()
    with left:
        figure = draw.holder_map(result.drop, result.log_prob, result.n)
        chart(figure, key="holders", name="holders", alt="What the value loses without each part")
    with right:
        shown = Estimated("drop", "low", "high", "nats lost")
        columns = ["part", "drop", "low", "high", "p"]
        estimates(table.head(10).loc[:, columns], [shown])
        st.caption(
            f"The log-probability of the value is {result.log_prob:.2f} nats after its own text "
            f"and {result.neighbour.value:.2f} "
            f"{bracketed(result.neighbour.low, result.neighbour.high, '.2f')} after a neighbour "
            f"({result.rows}). Each part's output is exchanged for a neighbour's. Ranked on "
            f"{result.n_ranked} neighbours, measured on {result.n} others."
        )


def removed(result: Holders) -> None:
    """Show the exposure and the loss without the first heads, beside random heads."""
    if not result.removals:
        return
    st.markdown("**What removing them costs.** Each head gives its mean over held-out rows.")
    first = [one for one in result.removals if one.ranked][-1]
    columns = st.columns(2)
    columns[0].metric(
        f"Exposure without {len(first.heads)} heads",
        f"{first.exposure.exposure:.1f} bits",
        delta=f"{first.exposure.exposure - result.exposure.exposure:+.1f}".replace("-", "−"),
        delta_color="off",
        delta_arrow="off",
    )
    columns[0].caption(
        f"before {result.exposure.exposure:.1f} of {log2(result.exposure.space):.1f} bits; without "
        f"{', '.join(first.heads)}"
    )
    columns[1].metric(
        "Loss on held-out rows",
        f"{first.loss.tuned:.3f}",
        delta=signed(first.loss.difference),
        delta_color="off",
        delta_arrow="off",
        help="In nats per token, without the same heads.",
    )
    columns[1].caption(_loss_words(first.loss))
    table = result.removed_frame()
    shown = [Estimated("loss_change", "loss_low", "loss_high", "change of loss")]
    ends = []
    if not result.exposure.exact:  # where all values were scored, there is no sampling error
        ends = ["exposure_low", "exposure_high"]
        shown.append(Estimated("exposure", "exposure_low", "exposure_high", "exposure, bits"))
    numbers = ["heads", "chosen", "exposure", *ends, "log_prob"]
    numbers += ["loss_change", "loss_low", "loss_high", "n"]
    titles = {"log_prob": "log-probability, nats"}
    if result.exposure.exact:
        titles["exposure"] = "exposure, bits (exact)"
    estimates(table.loc[:, numbers].round({"exposure": 3, "log_prob": 2}), shown, titles)
    st.caption(
        f"The log-probability of the value is {result.log_prob:.2f} nats in the whole model. It "
        "falls before the exposure does: a value that is still likelier than all others keeps "
        "every bit."
    )
    downloads(
        lambda: [draw.holder_map(result.drop, result.log_prob, result.n)],
        lambda: pd.concat([result.to_frame(), table]),
        name="holders",
        title=f"What holds a canary in {result.subject}",
    )


def _loss_words(loss: Difference) -> str:
    return (
        f"before {loss.base:.3f}; change {bracketed(loss.low, loss.high, signed)}, "
        f"{p_text(loss.p)}, n = {loss.n}"
    )


def exposure_seconds(subject: "Subject", canaries: list[Canary]) -> float:
    """Seconds that the exposure of these canaries takes, about."""
    per_token = seconds_a_token(subject.hash, subject)
    tokens = 0
    for one in canaries:
        scored = one.space if one.space <= EXACT else SAMPLED
        tokens += scored * len(subject.ids(one.text.replace("{}", one.value)))
    return tokens * per_token


def _part_seconds(subject: "Subject", canary: Canary) -> float:
    """Seconds that the exchange of every part takes, at most: a run starts at its layer."""
    card = subject.card
    runs = NEIGHBOURS * card.n_layers * (card.n_heads + 1) / 2
    length = len(subject.ids(canary.text.replace("{}", canary.value)))
    return runs * length * seconds_a_token(subject.hash, subject)
