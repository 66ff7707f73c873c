"""What the Fairness page shows of the heads that carry a preference, and of what removing costs."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from workbench.bias.carriers import Carriers, bias_heads
from workbench.figures import fairness as draw
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cost import seconds_a_token
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.models import alone
from workbench.ui.parts.notices import notices
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.parts.words import called, interval_text, p_text, roughly, signed

if TYPE_CHECKING:
    from workbench.subjects import Subject

PAIRS = 40
"""Pairs on which every head is exchanged, unless more are asked for."""
CORE = 60
"""Documents of each task of the suite that shows what else is lost."""
EDITED = 5
"""Models that are scored: the whole one, two without heads that carry, two without random ones."""
TOKENS = 18
"""Tokens of a sentence, about."""
CORE_TOKENS = 100
"""Tokens of a document of that suite, about; it has five tasks."""


def seconds_of(subject: "Subject", limit: int, pairs: int) -> float:
    """Seconds that the search for heads and the scores without them take, about.

    Args:
        subject: The model.
        limit: Pairs that are scored.
        pairs: Pairs on which every head is exchanged.
    """
    card = subject.card
    runs = (
        2 * min(pairs, limit) * card.n_layers * (card.n_heads + 1) / 2
    )  # a run starts at its layer
    scored = EDITED * (2 * TOKENS * limit + 5 * CORE * CORE_TOKENS)
    return (runs * TOKENS + scored) * seconds_a_token(subject.hash, subject)


def carried(subject: "Subject", task: str, limit: int, pairs: int) -> None:
    """Show which heads carry a task's preference, once that is asked for.

    Args:
        subject: The model.
        task: A task of pairs.
        limit: Pairs that are scored with heads taken out.
        pairs: Pairs on which every head is exchanged.
    """
    key = ("carriers", subject.hash, subject.name, task, limit, pairs)
    cost = (
        f"Each head and MLP of {called(subject.name)} is set to its mean in both sentences of "
        f"{min(pairs, limit)} pairs. Then the first heads are taken out, and {task} and core are "
        f"scored again: about {roughly(seconds_of(subject, limit, pairs))}."
    )
    if not wanted(key, cost, quick=False, button="Find the heads"):
        return
    with alone(subject.hash):
        result = with_progress(
            key,
            lambda report: bias_heads(
                subject, task, pairs=pairs, limit=limit, core_limit=CORE, progress=report
            ),
        )
    carrying(result)
    removed(result)


def carrying(result: Carriers) -> None:
    """Show the map of all parts and the table of the first ones."""
    notices(result.remarks[1:])
    left, right = st.columns(2, gap="medium")
    with left:
        figure = draw.carrier_map(result.effect, result.preference.value, result.n)
        chart(figure, key="carriers", name="carriers", alt="What each part carries")
    table = result.to_frame()
    with right:
        shown = Estimated("effect", "low", "high", "nats carried")
        columns = ["part", "effect", "low", "high", "p"]
        estimates(table.head(10).loc[:, columns], [shown])
        whole = result.preference
        st.caption(
            f"The stereotyping sentence is likelier by "
            f"{interval_text(whole.value, whole.low, whole.high)} nats in the whole model. Each "
            f"part gives its mean over reference texts instead; what is lost is what it carries, "
            f"below 0 where it prefers the other sentence. Ranked on {result.n_ranked} pairs, "
            f"measured on {result.n} others; p is corrected over all parts."
        )


def removed(result: Carriers) -> None:
    """Show the scores without the first heads, beside random heads, and what else is lost."""
    if not result.removals:
        return
    st.markdown("**What removing them does.** Each head gives its mean over reference texts.")
    first = [one for one in result.removals if one.ranked][-1]
    columns = st.columns(2)
    gaps = (("Share of stereotyping sentences", first.share), ("Their lead in nats", first.nats))
    for column, (words, gap) in zip(columns, gaps, strict=True):
        column.metric(
            f"{words} without {len(first.heads)} heads",
            f"{gap.tuned:.3f}",
            delta=signed(gap.difference),
            delta_color="off",
            delta_arrow="off",
        )
        column.caption(
            f"before {gap.base:.3f}; change "
            f"{interval_text(gap.difference, gap.low, gap.high)}, {p_text(gap.p)}, n = {gap.n}"
        )
    table = result.removed_frame()
    shown = [
        Estimated("share_change", "share_low", "share_high", "change of share"),
        Estimated("nats_change", "nats_low", "nats_high", "change in nats"),
    ]
    names = ["heads", "chosen", "share_change", "share_low", "share_high"]
    names += ["nats_change", "nats_low", "nats_high", "n"]
    estimates(table.loc[:, names], shown)
    costs = result.cost_frame()
    st.markdown(f"**What else is lost**, on *{result.core}*:")
    names = ["heads", "task", "metric", "base", "tuned", "difference", "low", "high", "p", "n"]
    titles = {"base": "whole", "tuned": "without"}
    estimates(
        costs.loc[:, names].round({"base": 3, "tuned": 3}),
        [Estimated("difference", "low", "high")],
        titles,
    )
    st.caption("p is corrected over the tasks of one edited model.")
    downloads(
        lambda: [draw.carrier_map(result.effect, result.preference.value, result.n)],
        lambda: pd.concat([result.to_frame(), table, costs]),
        name="carriers",
        title=f"Heads that carry {result.task} in {result.subject}",
    )
