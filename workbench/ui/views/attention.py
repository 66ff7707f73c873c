"""The Attention page's views of one head: map, value-weighted, difference, strongest pairs."""

from typing import TYPE_CHECKING

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.charts import chart
from workbench.ui.parts.look import look
from workbench.ui.parts.models import cached_load, pick_name

if TYPE_CHECKING:
    from workbench.interp.patterns.attention import Attention

VIEWS = ("Map", "Weighted", "Difference", "Pairs")
LONG = 40
"""Positions from which a search helps."""


def show_view(view: str, found: "Attention", layer: int, head: int, names: list[str]) -> None:
    """Draw one of `VIEWS` of a head."""
    from workbench.figures import attention as draw

    name = names[layer * (len(names) // found.pattern.shape[0]) + head]
    if view == "Pairs":
        pairs(found, layer, head)
        return
    if view == "Difference":
        difference(found, layer, head, name, names)
        return
    sought = _sought(found.tokens)
    pattern, kind, title = (
        found.head(layer, head),
        "attention",
        "what each token (row) attends to (column)",
    )
    if view == "Weighted":
        pattern, kind = found.value_weighted(layer, head), "attention x |v W_O|"
        title = "attention times the length of what it moves"
    chart(
        draw.head(pattern, found.tokens, title=f"{name}: {title}", kind=kind, sought=sought),
        key="head_map",
        name=f"{found.subject}-{name}",
        alt=f"Attention pattern of {name}",
    )
    if view == "Weighted":
        st.caption(
            "Attention parked on a token with a short value, such as the first, moves little, and pales here "
            "(Kobayashi et al. 2020)."
        )


def _sought(tokens: list[str]) -> list[int]:
    """The positions of a word to find, asked for only where the prompt is long; at most twenty."""
    if len(tokens) < LONG:
        return []
    word = (
        st.text_input(
            "Find a token", key="find", bind="query-params", placeholder="part of a token"
        )
        .strip()
        .lower()
    )
    return [i for i, token in enumerate(tokens) if word and word in token.lower()][:20]


def difference(found: "Attention", layer: int, head: int, name: str, names: list[str]) -> None:
    """This head less another: of this model and prompt, of another model, or on another prompt."""
    from workbench.figures import attention as draw
    from workbench.figures.style import visible

    with_what, choose = st.columns([1, 2])
    kind = with_what.selectbox(
        "Less", ["another head", "another model", "another prompt"], key="less", bind="query-params"
    )
    other, label, tokens = found, "", list(found.tokens)
    at = (layer, head)
    with choose:
        if kind == "another head":
            label = str(st.selectbox("Head ", names, 0, key="other_head", bind="query-params"))
            at = divmod(names.index(label), len(names) // found.pattern.shape[0])
        elif kind == "another model":
            label = pick_name("Model ", key="other", default="shelf-tuned")
            other = look(cached_load(label), found.prompt).found
        else:
            text = st.text_input("Prompt ", found.prompt, key="other_prompt", bind="query-params")
            label = "the other prompt"
            other = look(cached_load(str(st.session_state["model"])), text).found
    if len(other.tokens) != len(found.tokens):
        raise WorkbenchError(
            f"A difference needs as many tokens on both sides: {len(found.tokens)} here, {len(other.tokens)} with "
            f"{label}."
        )
    if kind != "another head":
        tokens = [
            a if a == b else f"{visible(a)}|{visible(b)}"
            for a, b in zip(tokens, other.tokens, strict=True)
        ]
    change = found.head(layer, head) - other.head(*at)
    against = label if kind == "another head" else f"{name} of {label}"
    chart(
        draw.head(change, tokens, title=f"{name} less {against}", kind="difference"),
        key="head_map",
        name=f"{found.subject}-{name}-difference",
        alt=f"Attention of {name} less {against}",
    )


def pairs(found: "Attention", layer: int, head: int) -> None:
    """The query-key pairs with the most attention, as a table."""
    from workbench.figures.style import visible

    first = st.toggle(
        "With the first token",
        key="first",
        bind="query-params",
        help="Many heads park attention there.",
    )
    frame = found.to_frame(layer, head)
    if not first:
        frame = frame[frame["key"] > 0]
    frame = frame.nlargest(50, "attention")
    for column in ("query_token", "key_token"):
        frame[column] = frame[column].map(visible)
    st.dataframe(
        frame[["query_token", "query", "key_token", "key", "attention"]],
        hide_index=True,
        height=500,
        column_config={
            "query_token": "from (query)",
            "query": st.column_config.NumberColumn("position", width="small"),
            "key_token": "to (key)",
            "key": st.column_config.NumberColumn("position ", width="small"),
            "attention": st.column_config.ProgressColumn(
                "attention", format="%.3f", min_value=0, max_value=1
            ),
        },
    )
