"""Why a model wrote a token: its alternatives, and the inputs, layers and heads behind it."""

import math
from collections.abc import Callable
from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.figures.style import visible
from workbench.generation import Scored
from workbench.interp.prompts.counterfactual import Counterfactual, counterfactual
from workbench.serving.explain import explained
from workbench.serving.fields import Explain
from workbench.serving.models import Served
from workbench.serving.shapes import label
from workbench.serving.talk import Reply
from workbench.ui.parts.bars import Bar, bars
from workbench.ui.parts.coloured_text import coloured_text
from workbench.ui.parts.engines import held
from workbench.ui.parts.links import page_link
from workbench.ui.parts.notices import note, warn
from workbench.ui.parts.words import escaped
from workbench.ui.views.chat_settings import Settings
from workbench.ui.views.chat_tokens import percent_of, scores_of, texts_of

SHOWN = 8
"""Alternatives, heads and layers shown."""
BEFORE = 64
"""Tokens before the chosen one whose contribution is shown."""


def panel(reply: Reply, at: int, settings: Settings, close: Callable[[], None]) -> None:
    """Show everything about one token: first what is known already, then what must be computed.

    Args:
        reply: The reply.
        at: Index of the token in it.
        settings: Of the page.
        close: Called when the panel is closed.
    """
    if at >= len(reply.ids):
        return
    other = settings.other_of(reply.model)
    with st.container(border=True, key="why"):
        heading(reply, at, close)
        first = st.container(horizontal=True, gap="large")
        second = st.container(horizontal=True, gap="large")
        with first.container(width=360):
            alternatives(reply, at, other)
        with st.spinner("Looking inside the model"), held(reply.model) as served:
            try:
                explanation = reasons(reply, at, served)
            except WorkbenchError as error:
                warn(error)
                return
            with first.container(width="stretch"):
                by_token(explanation)
            with second.container(width=360):
                by_layer(explanation)
            with second.container(width=360):
                by_head(explanation)
            further(reply, at, explanation, served)


def heading(reply: Reply, at: int, close: Callable[[], None]) -> None:
    """Show the token, its probability and rank, and a button that closes the panel.

    Args:
        reply: The reply.
        at: Index of the token in it.
        close: Called when the panel is closed.
    """
    own = reply.scores[at]
    rank = next((i for i, (token, _) in enumerate(own.top) if token == own.token), None)
    place = f"not in the top {len(own.top)}" if rank is None else f"rank {rank + 1}"
    with st.container(horizontal=True, vertical_alignment="center"):
        text = escaped(visible(texts_of(reply)[at]))
        st.markdown(f"#### Why “{text}”?")
        st.caption(
            f"probability {percent_of(own.logprob)}, {place} · token {at + 1} of {len(reply.ids)} "
            f"by {escaped(reply.model)}",
            width="stretch",
        )
        st.button(
            "Close", icon=":material/close:", key="close why", type="tertiary", on_click=close
        )


def alternatives(reply: Reply, at: int, other: str) -> None:
    """Show the most likely tokens at this place, by this model and by the other.

    Args:
        reply: The reply.
        at: Index of the token in it.
        other: Name of the other model; "" for none.
    """
    own = reply.scores[at]
    theirs = None
    why = ""
    if other:
        try:
            theirs = scores_of(other, reply)[at]
        except WorkbenchError as error:
            why = str(error)
    st.markdown("**Alternatives**")
    with held(reply.model) as served:
        rows = alternative_rows(served, own, theirs)
        first_choice = label(served.subject.tokenizer, theirs.top[0][0]) if theirs else ""
    bars(rows, of=[reply.model, other] if theirs else (), full=1.0)
    if theirs is not None:
        words = "the same token" if theirs.top[0][0] == own.token else f"“{visible(first_choice)}”"
        unknown = " (–: not in its top 10)" if any(None in row.values for row in rows) else ""
        st.caption(f"{escaped(other)} would have chosen {escaped(words)}{unknown}.")
    elif why:
        st.caption(escaped(why))


def alternative_rows(served: Served, own: Scored, theirs: Scored | None) -> list[Bar]:
    """Bars for this model's most likely tokens, the chosen token and the other's first choice.

    Args:
        served: The model.
        own: Its scores at this place.
        theirs: The other model's scores; None without another model.
    """
    here = {**dict(own.top), own.token: own.logprob}
    there = {} if theirs is None else {**dict(theirs.top), own.token: theirs.logprob}
    wanted = [token for token, _ in own.top[: SHOWN - 2]]
    wanted += [own.token, *(token for token, _ in (theirs.top[:1] if theirs else ()))]
    order = sorted(dict.fromkeys(wanted), key=lambda token: -here.get(token, -math.inf))
    rows = []
    for token in order:
        values = [here.get(token), there.get(token)] if theirs is not None else [here.get(token)]
        written = " / ".join("–" if v is None else percent_of(v) for v in values)
        shares = tuple(None if v is None else math.exp(v) for v in values)
        name = visible(label(served.subject.tokenizer, token))
        rows.append(Bar(name, shares, written, strong=token == own.token))
    return rows


def reasons(reply: Reply, at: int, served: Served) -> dict[str, Any]:
    """The API's `explain` for this one token, cached.

    Args:
        reply: The reply.
        at: Index of the token in it.
        served: Its model.
    """
    return _reasons(reply.sha256, (*reply.prompt, *reply.ids[: at + 1]), served)


@st.cache_data(max_entries=128, show_spinner=False)
def _reasons(sha256: str, ids: tuple[int, ...], _served: Served) -> dict[str, Any]:
    with _served.lock:
        answer = explained(_served.subject, list(ids), len(ids) - 1, Explain(tokens=1, top=SHOWN))
    return {**answer["tokens"][0], "before": answer["prompt_tokens"]}


def by_token(explanation: dict[str, Any]) -> None:
    """Show the tokens before, coloured by their contribution."""
    st.markdown("**Which tokens it depends on**")
    cut = max(0, len(explanation["before"]) - BEFORE)
    coloured_text(explanation["before"][cut:], explanation["attribution"][cut:])
    st.caption(
        "Blue tokens make it more likely, red ones less: gradient times embedding, in nats."
        + (f" The last {BEFORE} of {len(explanation['before'])} tokens." if cut else "")
    )


def by_layer(explanation: dict[str, Any]) -> None:
    """Show the logit lens at the position that predicted the token."""
    st.markdown("**In which layer it was decided**")
    rows = []
    for row in _thinned(explanation["lens"]):
        name = "embedding" if not row["after_layers"] else f"layer {row['after_layers'] - 1}"
        says = f"{percent_of(math.log(max(row['probability'], 1e-12)))}  {visible(row['top'])}"
        rows.append(
            Bar(name, (row["probability"],), says, strong=row["top"] == explanation["text"])
        )
    bars(rows, full=1.0)
    st.caption(
        "Logit lens: the token's probability after each layer, and the most likely token there."
    )


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All layers of a small model; of a deep one evenly spaced layers, including the last."""
    step = max(1, math.ceil((len(rows) - 1) / 12))
    return rows[(len(rows) - 1) % step :: step]


def by_head(explanation: dict[str, Any]) -> None:
    """Show the heads that contribute most to the token's logit."""
    st.markdown("**Which heads wrote it**")
    if not explanation["heads"]:
        st.caption("The contributions of single heads are not available for this model.")
        return
    rows = [
        Bar(row["head"], (row["contribution"],), f"{row['contribution']:+.2f}")
        for row in explanation["heads"]
    ]
    bars(rows, signed=True)
    against = escaped(visible(explanation["against"]))
    st.caption(
        f"Each head's contribution to the logit difference between the token and “{against}”, the "
        "most likely other token."
    )


def further(reply: Reply, at: int, explanation: dict[str, Any], served: Served) -> None:
    """Links to other pages, filled in for this token.

    Args:
        reply: The reply.
        at: Index of the token in it.
        explanation: Of `reasons`.
        served: The reply's model.
    """
    ids = [*reply.prompt, *reply.ids[:at]]
    model = reply.model
    try:
        pair = propose(
            reply.sha256, tuple(ids), reply.ids[at], tuple(explanation["attribution"]), served
        )
    except WorkbenchError as error:
        note(error)
        return
    st.markdown("**Take it further**")
    with st.container(horizontal=True, gap="medium"):
        best = explanation["heads"][0]["head"] if explanation["heads"] else ""
        more = {"head": best} if best else {}
        old = escaped(visible(pair.old))
        new = escaped(visible(pair.new))
        answers = {"answer": pair.answer, "wrong": pair.wrong}
        page_link(
            "attention",
            f"Attention of {best}" if best else "Attention",
            icon=":material/grid_on:",
            model=model,
            prompt=pair.clean,
            **more,
        )
        page_link(
            "patching",
            f"Patching: what if “{old}” were “{new}”?",
            icon=":material/conversion_path:",
            model=model,
            clean=pair.clean,
            corrupted=pair.corrupted,
            **answers,
        )
        page_link(
            "lens",
            "Lens at every token",
            icon=":material/layers:",
            model=model,
            prompt=pair.clean,
            **answers,
        )


def propose(
    sha256: str, ids: tuple[int, ...], token: int, weights: tuple[float, ...], served: Served
) -> Counterfactual:
    """A prompt in which the token is no longer the answer, cached.

    Args:
        sha256: Of the model.
        ids: The tokens before.
        token: The token.
        weights: The contribution of each token before.
        served: The model.
    """
    return _propose(sha256, ids, token, weights, served)


@st.cache_data(max_entries=128, show_spinner=False)
def _propose(
    sha256: str, ids: tuple[int, ...], token: int, weights: tuple[float, ...], _served: Served
) -> Counterfactual:
    with _served.lock:
        return counterfactual(_served.subject, ids, token, weights)
