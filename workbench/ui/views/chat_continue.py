"""The Chat page's way with models that only go on with a text: the likeliest words beside drawn
ones.
"""

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
    """A continuation and what was asked for it; `error` where that could not be done."""

    request: CompletionRequest | ChatRequest
    writing: Writing | None = None
    error: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing more comes."""
        return self.writing is None or self.writing.growing.done

    def reply(self) -> Reply | None:
        """What there is so far."""
        try:
            return self.writing.reply() if self.writing else None
        except RuntimeError as error:  # the engine failed
            self.writing, self.error = None, str(error)
            return None


def body(model: str, prompt: str, settings: Settings, *, greedy: bool) -> CompletionRequest:
    """The request that the API would be sent."""
    given = {"model": model, "prompt": prompt, **settings.sampling(), "logprobs": TOP}
    return CompletionRequest.model_validate(given | ({"temperature": 0.0} if greedy else {}))


def kinds(settings: Settings) -> list[tuple[str, bool]]:
    """The columns of a model: (words above it, whether the likeliest token is always taken)."""
    drawn = (f"drawn at temperature {settings.temperature:g}, seed {settings.seed}", False)
    return [("the likeliest word each time", True), *([drawn] if settings.temperature else [])]


def continued(place: str, request: CompletionRequest | ChatRequest) -> Continued:
    """The continuation that stands in a place; begun anew where something else is asked for now."""
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
    """Every model's continuations, drawn again and again while they grow."""
    pieces = {
        (model, words): continued(
            f"{words[:3]} {model}", body(model, prompt, settings, greedy=greedy)
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
    """End what is being written; what there is stays."""
    for piece in pieces.values():
        if piece.writing is not None:
            piece.writing.growing.cancel()
            piece.writing.growing.wait(5, whole=True)


def row(model: str, pieces: dict[tuple[str, str], Continued], settings: Settings) -> None:
    """One model: its name, its continuations beside each other, and the panel of a token of them."""
    name_plate(model)
    columns = kinds(settings)
    replies = {}
    for column, (words, _) in zip(st.columns(len(columns), gap="medium"), columns, strict=True):
        piece = pieces[model, words]
        place = f"{words[:3]} {model}"
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
    """Have the other model read a whole continuation in the background, so that a click need not
    wait for it.
    """
    other = settings.other_of(reply.model)
    if other and reply.reason:
        try:
            ask_scores(other, reply)
        except WorkbenchError:
            return  # the panel says why
