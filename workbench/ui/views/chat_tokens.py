"""A model's reply on the Chat page: its name and hash, and its tokens, coloured and clickable."""

import math
import threading
from collections.abc import Callable, Sequence

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.figures.style import visible
from workbench.generation import Growing, Scored
from workbench.serving.server import shared_service
from workbench.serving.talk import Reply
from workbench.subjects.spelling import labels
from workbench.ui.parts.engines import held, score
from workbench.ui.parts.notices import warn
from workbench.ui.parts.token_view import Coloured, coloured_view
from workbench.ui.parts.wash import signed, warm
from workbench.ui.parts.words import called
from workbench.ui.views.chat_settings import DIFFERENCE, PLAIN, SURE, SURPRISE, Settings

DEEPEST = 8.0
"""Bits of surprise with the deepest colour."""
WIDEST = 8.0
"""Bits of difference with the deepest colour."""
PATIENCE = 20.0
"""Seconds to wait for the other model's scores."""
KEPT = 32
"""Scorings by the other model that are kept in a session."""
_STYLE = """<style>
.legend { display: flex; gap: 8px; align-items: center; flex-wrap: wrap; font-size: 13px; }
.legend span { opacity: 0.7; }
.legend i { width: 110px; height: 10px; border-radius: 3px;
  border: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
.legend b { margin-left: 16px; font-weight: 600; }
</style>"""
REASONS = {"length": "the maximum", "cancelled": "stopped"}


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
        details += f" · derived from {called(subject.card.parent)}"
    st.markdown(
        f"**{called(model)}** :gray[{details}]",
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
        return Coloured(text, signed(bits / WIDEST), title)
    logprob = other.logprob if colour == SURPRISE and other is not None else own.logprob
    return Coloured(text, warm(-logprob / math.log(2) / DEEPEST), title)


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


def percent_of(logprob: float) -> str:
    """A log-probability as a percentage, such as `12 %` or `< 0.1 %`."""
    share = 100 * math.exp(logprob)
    return f"{share:.0f} %" if share >= 9.5 else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def legend(colour: str) -> None:
    """Show what the colours mean."""
    to_orange = (warm(0), warm(1))
    both_ways = (signed(-1), signed(0), signed(1))
    ends = {
        SURE: ("certain", "unlikely (1 in 256)", to_orange),
        SURPRISE: ("expected by the other model", "unlikely to the other model", to_orange),
        DIFFERENCE: ("more likely to the other", "more likely to this model", both_ways),
    }.get(colour)
    if ends is None:
        st.caption("Click a token to see why it was written.")
        return
    left, right, colours = ends
    st.html(
        f'{_STYLE}<div class="legend"><span>{left}</span>'
        f'<i style="background:linear-gradient(90deg,{", ".join(colours)})"></i>'
        f"<span>{right}</span><b>Click a token to see why it was written.</b></div>"
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
