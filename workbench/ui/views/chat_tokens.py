"""What a model wrote on the Chat page: its name and hash, and its tokens, coloured, each to be
clicked.
"""

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

DEEPEST, WIDEST = 8.0, 8.0
"""Bits of surprise, and of difference, that have the deepest colour."""
PALE = 0.36
"""How far from the middle of its scale the deepest colour of a difference lies: words stay easy to
read on it.
"""
UNSURE = [[0.0, "#ffffff"], [0.25, "#fdebd3"], [0.6, "#fdbf7a"], [1.0, "#e8791d"]]
SHADES = 65
PATIENCE = 20.0
"""Seconds to wait for the other model's scores."""
KEPT = 32
REASONS = {"length": "as long as was asked for", "cancelled": "stopped"}
Pick = tuple[str, int]
"""The token whose panel is open: where its reply stands, and its place in it."""


def name_plate(model: str) -> None:
    """A pane's name, the hash of the weights that answer in it, and what they were made from."""
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
    made_from = f" · made from {escaped(subject.card.parent)}" if subject.card.parent else ""
    st.markdown(
        f"**{escaped(model)}** :gray[`{subject.hash[:12]}`{f' · {kind}' if kind else ''}{made_from}]",
        help=f"sha256 of weights, configuration, tokenizer and edits: {subject.hash}",
    )


def answered_by(reply: Reply) -> None:
    """A line below a reply where other weights answered than the pane has now."""
    now = st.session_state.get("sha256", {}).get(reply.model)
    if now is not None and now != reply.sha256:
        st.caption(f"Answered by other weights of this name: {reply.sha256[:12]}")


def texts_of(reply: Reply) -> list[str]:
    """The text of each token that was written."""
    with held(reply.model) as served:
        return labels(served.subject.tokenizer, reply.ids)


def show_reply(
    reply: Reply, settings: Settings, place: str, *, on_pick: Callable[[str, int], None]
) -> None:
    """A reply's tokens; `place` tells replies apart."""
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
        st.caption("No token: the model ended its text at once." if reply.reason else "…")
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
    """A token with the colour and the words that belong to it."""
    title = f"{visible(text)}  {percent_of(own.logprob)}"
    if other is not None:
        title += f", of the other model {percent_of(other.logprob)}"
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
    """Have a model's inside looked at for the first time while its words are read: the first look
    makes the reader.
    """

    def look() -> None:
        from workbench.interp.engine.packed import reader

        with shared_service().models.use(model, listed=False) as served, served.lock:
            reader(served.subject)

    thread = threading.Thread(target=look, name=f"reader of {model}", daemon=True)
    thread.start()
    return thread


@cache
def _shades(scale: str) -> list[str]:
    return sample_colorscale(
        UNSURE if scale == "unsure" else scale, np.linspace(0, 1, SHADES).tolist()
    )


def _shade(scale: str, share: float) -> str:
    """A colour of a scale; there are few, made once, since a page has hundreds of tokens."""
    return _shades(scale)[round(share * (SHADES - 1))]


def percent_of(logprob: float) -> str:
    """A probability as people read it."""
    share = 100 * math.exp(logprob)
    return f"{share:.0f} %" if share >= 9.5 else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def legend(colour: str) -> None:
    """What the colours say."""
    ends = {
        SURE: ("certain", "it found the token unlikely (1 in 256)", UNSURE),
        SURPRISE: ("the other expected it", "the other would not have said it", UNSURE),
        DIFFERENCE: ("the other found it likelier", "this model found it likelier", DIVERGING),
    }.get(colour)
    if ends is None:
        st.caption("Click a token to ask why it came.")
        return
    left, right, scale = ends
    first, last = (0.5 - PALE, 0.5 + PALE) if scale == DIVERGING else (0.0, 1.0)
    stops = ", ".join(sample_colorscale(scale, np.linspace(first, last, 5).tolist()))
    st.html(
        '<div style="display:flex;gap:8px;align-items:center;flex-wrap:wrap;font-size:13px;color:#5d6b7a">'
        f'{left}<span style="width:110px;height:10px;border-radius:3px;border:1px solid #cbd4de;'
        f'background:linear-gradient(90deg,{stops})"></span>{right}'
        "<b style='margin-left:16px;font-weight:600;color:#1c2733'>Click a token to ask why it came.</b></div>"
    )


def scores_of(other: str, reply: Reply) -> list[Scored]:
    """How another model scores what was written, a token each.

    Raises `WorkbenchError` where there is no other model, or its tokens are others.
    """
    growing = ask_scores(other, reply)
    growing.wait(PATIENCE, whole=True)
    if not growing.done:
        raise WorkbenchError(f"{other} is still reading; look again in a moment.")
    scores = growing.completion().prompt_scores
    return list(scores[len(scores) - len(reply.ids) :])


def ask_scores(other: str, reply: Reply) -> Growing:
    """Have another model read a reply in the background; what was asked is kept."""
    if not other:
        raise WorkbenchError("There is no other model to compare with; choose one above.")
    readings: dict[tuple, Growing] = st.session_state.setdefault("other scores", {})
    key = (other, reply.sha256, tuple(reply.prompt), tuple(reply.ids))
    if key not in readings:
        with held(other) as theirs, held(reply.model) as ours:
            if theirs.subject.tokenizer.get_vocab() != ours.subject.tokenizer.get_vocab():
                raise WorkbenchError(
                    f"{other} has other tokens than {reply.model}, so theirs cannot be compared one by one; choose a "
                    "model with the same tokenizer."
                )
        readings[key] = score(other, [*reply.prompt, *reply.ids])
        while len(readings) > KEPT:
            readings.pop(next(iter(readings)))
    return readings[key]
