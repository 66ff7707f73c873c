"""The Chat page's Continue mode: a text continued greedily and by sampling, side by side."""

from dataclasses import dataclass

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.serving.fields import ChatRequest, CompletionRequest
from workbench.serving.talk import Reply
from workbench.ui.parts.engines import TOP, Writing, begin
from workbench.ui.parts.notices import fault
from workbench.ui.views.chat import EVERY, FIRST, close, pick
from workbench.ui.views.chat_panel import panel
from workbench.ui.views.chat_settings import Settings
from workbench.ui.views.chat_tokens import ask_scores, name_plate, show_reply

PROMPT = "It was a dark and stormy night, and"


@dataclass
class Continued:
    """A continuation with its request; `error` says why it could not be generated."""

    request: CompletionRequest | ChatRequest
    writing: Writing | None = None
    error: str = ""

    @property
    def done(self) -> bool:
        """Whether it is finished."""
        return self.writing is None or self.writing.growing.done

    def reply(self) -> Reply | None:
        """The text so far; None where there is none."""
        try:
            return self.writing.reply() if self.writing else None
        except RuntimeError as error:  # the engine failed
            self.writing = None
            self.error = str(error)
            return None


def body(model: str, prompt: str, settings: Settings, *, greedy: bool) -> CompletionRequest:
    """The API request for a continuation.

    Args:
        model: Name of the model.
        prompt: The text to continue.
        settings: Of sampling.
        greedy: Whether the most likely token is always taken, whatever the temperature.
    """
    given = {"model": model, "prompt": prompt, **settings.sampling(), "logprobs": TOP}
    return CompletionRequest.model_validate(given | ({"temperature": 0.0} if greedy else {}))


def kinds(settings: Settings) -> list[tuple[str, bool]]:
    """The columns of a model: (its heading, whether decoding is greedy)."""
    sampled = (f"sampled at temperature {settings.temperature:g}, seed {settings.seed}", False)
    return [("greedy decoding", True), *([sampled] if settings.temperature else [])]


def place_of(model: str, *, greedy: bool) -> str:
    """The key of a continuation on the page."""
    return f"{'the' if greedy else 'dra'} {model}"


def continued(place: str, request: CompletionRequest | ChatRequest) -> Continued:
    """The continuation in a place of the page; started anew if its request has changed."""
    pieces: dict[str, Continued] = st.session_state.setdefault("continued", {})
    known = pieces.get(place)
    if known is not None and known.request == request:
        return known
    if known is not None and known.writing is not None:
        known.writing.growing.cancel()
    if (st.session_state.get("picked") or ("",))[0] == place:
        close()
    pieces[place] = Continued(request)
    try:
        pieces[place].writing = begin(request)
    except WorkbenchError as error:
        pieces[place].error = str(error)
    return pieces[place]


def show(prompt: str, settings: Settings) -> None:
    """Show every model's continuations, redrawn while they are being written."""
    pieces = {
        (model, words): continued(
            place_of(model, greedy=greedy), body(model, prompt, settings, greedy=greedy)
        )
        for model in settings.models
        for words, greedy in kinds(settings)
    }
    watching = not all(piece.done for piece in pieces.values())

    @st.fragment(run_every=EVERY if watching else None)
    def watch() -> None:
        for piece in pieces.values():
            if piece.writing is not None:
                piece.writing.growing.wait(FIRST)
        busy = not all(piece.done for piece in pieces.values())
        if watching and not busy:
            st.rerun()
        for model in settings.models:
            row(model, pieces, settings)
        if busy:
            st.button(
                "Stop",
                icon=":material/stop_circle:",
                key="stop writing",
                on_click=stop,
                args=(pieces,),
            )

    watch()


def stop(pieces: dict[tuple[str, str], Continued]) -> None:
    """Stop all continuations that are being written; what they have so far stays."""
    for piece in pieces.values():
        if piece.writing is not None:
            piece.writing.growing.cancel()
            piece.writing.growing.wait(5, whole=True)


def row(model: str, pieces: dict[tuple[str, str], Continued], settings: Settings) -> None:
    """Show one model: its name, its continuations side by side, and the panel of a clicked token.

    Args:
        model: Name of the model.
        pieces: Continuations by model and heading.
        settings: Of the page.
    """
    name_plate(model)
    columns = kinds(settings)
    replies = {}
    panes = st.columns(len(columns), gap="medium")
    for column, (words, greedy) in zip(panes, columns, strict=True):
        piece = pieces[model, words]
        place = place_of(model, greedy=greedy)
        with column, st.container(border=True, height="stretch"):
            st.caption(words)
            if (reply := piece.reply()) is not None:
                replies[place] = reply
                show_reply(reply, settings, place, on_pick=pick)
                prepare(reply, settings)
            elif piece.error:
                fault(piece.error)
    picked = st.session_state.get("picked")
    if picked and picked[0] in replies:
        panel(replies[picked[0]], picked[1], settings, close)


def prepare(reply: Reply, settings: Settings) -> None:
    """Start scoring a finished reply by the other model, so that a click need not wait for it."""
    other = settings.other_of(reply.model)
    if other and reply.reason:
        try:
            ask_scores(other, reply)
        except WorkbenchError:
            return  # the panel says why
