"""A model's reply on the Chat page: its name and hash, and its tokens, coloured and clickable."""

import math
import threading
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import streamlit as st
from plotly.colors import sample_colorscale

from workbench.errors import WorkbenchError
from workbench.figures.style import DIVERGING, visible
from workbench.generation import Growing, Scored
from workbench.serving.server import shared_service
from workbench.serving.talk import Reply
from workbench.subjects.spelling import labels
from workbench.ui.parts.engines import held, score
from workbench.ui.parts.notices import warn
from workbench.ui.parts.token_view import Coloured, coloured_view
from workbench.ui.parts.words import escaped
from workbench.ui.views.chat_settings import DIFFERENCE, PLAIN, SURE, SURPRISE, Settings

DEEPEST = 8.0
"""Bits of surprise with the deepest colour."""
WIDEST = 8.0
"""Bits of difference with the deepest colour."""
PALE = 0.36
"""Distance of the deepest colour from the middle of the scale; text stays readable on it."""
UNSURE: list[list[float | str]] = [
    [0.0, "#ffffff"],
    [0.25, "#fdebd3"],
    [0.6, "#fdbf7a"],
    [1.0, "#e8791d"],
]
SHADES = 65
PATIENCE = 20.0
"""Seconds to wait for the other model's scores."""
KEPT = 32
"""Scorings by the other model that are kept in a session."""
REASONS = {"length": "the maximum", "cancelled": "stopped"}
Scale = str | list[list[float | str]]


def name_plate(model: str) -> None:
    """Show a model's name, its hash, and what it was derived from."""
    with held(model) as served:
        subject = served.subject
    st.session_state.setdefault("sha256", {})[model] = subject.hash
    kind = (
        "edited"
        if model.startswith("edit:")
        else "has a chat template"
        if subject.tokenizer.chat_template
        else ""
    )
    details = f"`{subject.hash[:12]}`"
    if kind:
        details += f" · {kind}"
    if subject.card.parent:
        details += f" · derived from {escaped(subject.card.parent)}"
    st.markdown(
        f"**{escaped(model)}** :gray[{details}]",
        help=f"sha256 of weights, configuration, tokenizer and edits: {subject.hash}",
    )


def answered_by(reply: Reply) -> None:
    """A note below a reply whose model has changed since."""
    now = st.session_state.get("sha256", {}).get(reply.model)
    if now is not None and now != reply.sha256:
        st.caption(f"Written by an earlier model of this name: {reply.sha256[:12]}")


def texts_of(reply: Reply) -> list[str]:
    """The text of each token of a reply."""
    with held(reply.model) as served:
        return labels(served.subject.tokenizer, reply.ids)


def show_reply(
    reply: Reply, settings: Settings, place: str, *, on_pick: Callable[[str, int], None]
) -> None:
    """Show a reply's tokens.

    Args:
        reply: The reply.
        settings: Of the page.
        place: Key of the reply on the page.
        on_pick: Called with place and index of a clicked token.
    """
    texts = texts_of(reply)
    others: Sequence[Scored] | None = None
    other = settings.other_of(reply.model)
    if settings.colour in (SURPRISE, DIFFERENCE) and reply.reason:
        try:
            others = scores_of(other, reply)
        except WorkbenchError as error:
            warn(error)
    tokens = [
        _coloured(text, own, others[i] if others else None, settings.colour)
        for i, (text, own) in enumerate(zip(texts, reply.scores, strict=False))
    ]
    pick = st.session_state.get("picked")
    chosen = pick[1] if pick and pick[0] == place else None
    if not tokens:
        st.caption("The model ended its text without writing a token." if reply.reason else "…")
        return
    coloured_view(
        tokens, key=f"reply {place}", on_pick=lambda at: on_pick(place, at), chosen=chosen
    )
    if reply.reason:
        get_ready(reply.model, reply.sha256)
    why = REASONS.get(reply.reason, "")
    if why:
        st.caption(f"{len(reply.ids)} tokens, {why}")


def _coloured(text: str, own: Scored, other: Scored | None, colour: str) -> Coloured:
    """A token with its colour and hover text."""
    title = f"{visible(text)}  {percent_of(own.logprob)}"
    if other is not None:
        title += f", other model: {percent_of(other.logprob)}"
    if colour == PLAIN or (colour in (SURPRISE, DIFFERENCE) and other is None):
        return Coloured(text, "", title)
    if colour == DIFFERENCE and other is not None:
        bits = (own.logprob - other.logprob) / math.log(2)
        share = 0.5 + PALE * float(np.clip(bits / WIDEST, -1, 1))
        return Coloured(text, _shade(DIVERGING, share), title, abs(share - 0.5) > 0.3)
    logprob = other.logprob if colour == SURPRISE and other is not None else own.logprob
    share = min(1.0, -logprob / math.log(2) / DEEPEST)
    return Coloured(text, _shade("unsure", share), title)


@st.cache_resource(max_entries=64, show_spinner=False)
def get_ready(model: str, sha256: str) -> threading.Thread:
    """Prepare the model for explanations in the background, while its reply is being read."""

    def look() -> None:
        from workbench.interp.engine.packed import reader

        with shared_service().models.use(model, listed=False) as served, served.lock:
            reader(served.subject)

    thread = threading.Thread(target=look, name=f"reader of {model}", daemon=True)
    thread.start()
    return thread


@cache
def _shades(scale: str) -> list[str]:
    return _colours(UNSURE if scale == "unsure" else scale, np.linspace(0, 1, SHADES))


def _colours(scale: Scale, shares: np.ndarray) -> list[str]:
    """The colours at some places, 0 to 1, of a scale."""
    return [str(colour) for colour in sample_colorscale(scale, shares.tolist())]


def _shade(scale: str, share: float) -> str:
    """A colour of a scale, from a cached list, since a page has hundreds of tokens."""
    return _shades(scale)[round(share * (SHADES - 1))]


def percent_of(logprob: float) -> str:
    """A log-probability as a percentage, such as `12 %` or `< 0.1 %`."""
    share = 100 * math.exp(logprob)
    return f"{share:.0f} %" if share >= 9.5 else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def legend(colour: str) -> None:
    """Show what the colours mean."""
    ends = {
        SURE: ("certain", "unlikely (1 in 256)", UNSURE),
        SURPRISE: ("expected by the other model", "unlikely to the other model", UNSURE),
        DIFFERENCE: ("more likely to the other", "more likely to this model", DIVERGING),
    }.get(colour)
    if ends is None:
        st.caption("Click a token to see why it was written.")
        return
    left, right, scale = ends
    first, last = (0.5 - PALE, 0.5 + PALE) if scale == DIVERGING else (0.0, 1.0)
    stops = ", ".join(_colours(scale, np.linspace(first, last, 5)))
    st.html(
        '<div style="display:flex;gap:8px;align-items:center;flex-wrap:wrap;font-size:13px;'
        f'color:#5d6b7a">{left}'
        '<span style="width:110px;height:10px;border-radius:3px;border:1px solid #cbd4de;'
        f'background:linear-gradient(90deg,{stops})"></span>{right}'
        "<b style='margin-left:16px;font-weight:600;color:#1c2733'>"
        "Click a token to see why it was written.</b></div>"
    )


def scores_of(other: str, reply: Reply) -> list[Scored]:
    """Another model's scores for the tokens of a reply.

    Raises:
        WorkbenchError: There is no other model, it has another tokenizer, or it is not done yet.
    """
    growing = ask_scores(other, reply)
    growing.wait(PATIENCE, whole=True)
    if not growing.done:
        raise WorkbenchError(f"{other} is still scoring this text; try again in a moment.")
    scores = growing.completion().prompt_scores
    return list(scores[len(scores) - len(reply.ids) :])


def ask_scores(other: str, reply: Reply) -> Growing:
    """Start scoring a reply by another model in the background; cached in the session."""
    if not other:
        raise WorkbenchError("There is no other model to compare with; choose one above.")
    readings: dict[tuple, Growing] = st.session_state.setdefault("other scores", {})
    key = (other, reply.sha256, tuple(reply.prompt), tuple(reply.ids))
    if key not in readings:
        with held(other) as theirs, held(reply.model) as ours:
            if theirs.subject.tokenizer.get_vocab() != ours.subject.tokenizer.get_vocab():
                raise WorkbenchError(
                    f"{other} and {reply.model} have different tokenizers, so their tokens cannot "
                    "be compared; choose a model with the same tokenizer."
                )
        readings[key] = score(other, [*reply.prompt, *reply.ids])
        while len(readings) > KEPT:
            readings.pop(next(iter(readings)))
    return readings[key]
