"""A conversation on the Chat page: its turns, one reply a model beside each other, and what can be
done with them.
"""

from collections.abc import Callable

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.serving.fields import ChatRequest
from workbench.serving.talk import Talk, Turn
from workbench.ui.parts.engines import TOP, Writing, begin
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.notices import fault
from workbench.ui.parts.token_view import coloured_view
from workbench.ui.views.chat_panel import panel
from workbench.ui.views.chat_settings import Settings
from workbench.ui.views.chat_tokens import answered_by, ask_scores, name_plate, show_reply

EVERY = 0.2
"""Seconds between two looks at replies in the making."""
FIRST = 0.25
"""Seconds to wait for first words before anything is drawn."""
STARTERS = (
    "Tell me a story about a dog.",
    "What is the capital of France?",
    "Write a line about the sea.",
)


def talk() -> Talk:
    """The conversation of this session."""
    return st.session_state.setdefault("talk", Talk())


def writings() -> dict[str, Writing]:
    """What is being written, by the place it stands in."""
    return st.session_state.setdefault("writings", {})


def busy() -> bool:
    """Whether anything is being written."""
    return any(not writing.growing.done for writing in writings().values())


def body(model: str, messages: list[dict[str, str]], settings: Settings) -> ChatRequest:
    """The request that the API would be sent for the next reply."""
    return ChatRequest.model_validate(
        {
            "model": model,
            "messages": messages,
            **settings.sampling(),
            "logprobs": True,
            "top_logprobs": TOP,
        }
    )


def send(turn: Turn, settings: Settings) -> None:
    """Have every model reply to a turn."""
    st.session_state.pop("picked", None)
    talk().system = settings.system
    for model in settings.models:
        try:
            messages = talk().messages(model, turn)
            writings()[place_of(turn, model)] = begin(body(model, messages, settings))
        except WorkbenchError as error:
            st.session_state.setdefault("chat errors", {})[place_of(turn, model)] = str(error)


def place_of(turn: Turn, model: str) -> str:
    """The place of a reply."""
    return f"{turn.number} {model}"


def pick(place: str, at: int) -> None:
    """Open the panel of a token, or close it where it is open."""
    st.session_state["picked"] = (
        None if st.session_state.get("picked") == (place, at) else (place, at)
    )


def close() -> None:
    """Close the panel."""
    st.session_state["picked"] = None


def show(settings: Settings) -> None:
    """The conversation, drawn again and again while something is being written."""
    watching = busy()

    @st.fragment(run_every=EVERY if watching else None)
    def watch() -> None:
        for writing in writings().values():
            writing.growing.wait(FIRST)
        settle(settings)
        if watching and not busy():
            st.rerun()
        transcript(settings)

    watch()


def settle(settings: Settings) -> None:
    """Put what is written to its end into the conversation, and have the others read it meanwhile."""
    for turn in talk().turns:
        for model in settings.models:
            writing = writings().get(place_of(turn, model))
            if writing is None or not writing.growing.done:
                continue
            del writings()[place_of(turn, model)]
            try:
                turn.replies[model] = writing.reply()
                if other := settings.other_of(model):
                    ask_scores(other, turn.replies[model])
            except (
                WorkbenchError,
                RuntimeError,
            ) as error:  # an engine that failed, or no way to compare
                if model not in turn.replies:
                    st.session_state.setdefault("chat errors", {})[place_of(turn, model)] = str(
                        error
                    )


def transcript(settings: Settings) -> None:
    """The turns of the branch that is shown."""
    for turn in talk().path():
        said(turn, settings)
        for column, model in zip(
            st.columns(len(settings.models), gap="medium"), settings.models, strict=True
        ):
            with column:
                replied(turn, model, settings)
        opened(turn, settings)
    if busy():
        st.button("Stop", icon=":material/stop_circle:", key="stop writing", on_click=stop)


def stop() -> None:
    """End what is being written; what there is stays."""
    for writing in writings().values():
        writing.growing.cancel()
        writing.growing.wait(5, whole=True)


def said(turn: Turn, settings: Settings) -> None:
    """What the user said, and buttons to say it otherwise, go on anew after it, or look at another
    branch.
    """
    with st.container(
        horizontal=True, vertical_alignment="center", key=f"said {turn.number}", gap="small"
    ):
        if st.session_state.get("editing") == turn.number:
            edit(turn, settings)
            return
        with st.container(border=True, width="stretch"):
            st.text(turn.text)
        beside = talk().siblings(turn)
        if len(beside) > 1:
            at = beside.index(turn)
            step("‹", beside[at - 1], at > 0)
            st.caption(f"{at + 1} of {len(beside)}", width="content")
            step("›", beside[(at + 1) % len(beside)], at + 1 < len(beside))
        number = turn.number
        st.button("", icon=":material/edit:", key=f"edit {number}", type="tertiary", help="Say something else here; "
                  "this stays as a branch", on_click=lambda: st.session_state.update(editing=number))  # fmt: skip
        st.button("", icon=":material/refresh:", key=f"again {number}", type="tertiary", help="Ask again, with the "
                  "settings above", on_click=lambda: send(talk().say_instead(turn, turn.text), settings))  # fmt: skip
        if talk().at != number:
            st.button("", icon=":material/alt_route:", key=f"branch {number}", type="tertiary", help="Go on anew after "
                      "this turn; what follows stays as a branch", on_click=lambda: talk().branch(turn))  # fmt: skip


def step(words: str, turn: Turn, possible: bool) -> None:
    """A button to the branch before or after."""
    st.button(words, key=f"{words} {turn.number}", type="tertiary", disabled=not possible,
              on_click=lambda: talk().show(turn), help="Another branch")  # fmt: skip


def edit(turn: Turn, settings: Settings) -> None:
    """The field in which a turn is said otherwise."""
    st.text_area("Say instead", turn.text, key="instead", label_visibility="collapsed")

    def resend() -> None:
        st.session_state["editing"] = None
        try:
            send(talk().say_instead(turn, str(st.session_state["instead"])), settings)
        except WorkbenchError as error:
            st.session_state.setdefault("chat errors", {})[""] = str(error)

    st.button("Send", type="primary", key="resend", on_click=resend)
    st.button("Cancel", key="cancel edit", on_click=lambda: st.session_state.update(editing=None))


def replied(turn: Turn, model: str, settings: Settings) -> None:
    """What one model replied, or is replying."""
    place = place_of(turn, model)
    writing = writings().get(place)
    if error := st.session_state.get("chat errors", {}).get(place):
        fault(error)
    elif writing is not None:
        show_reply(writing.reply(), settings, place, on_pick=pick)
    elif model in turn.replies:
        show_reply(turn.replies[model], settings, place, on_pick=pick)
        answered_by(turn.replies[model])
    else:
        st.caption("It took no part in this turn.")


def opened(turn: Turn, settings: Settings) -> None:
    """The panel of the token that was clicked, below the turn it stands in."""
    picked = st.session_state.get("picked")
    for model in settings.models:
        if picked and picked[0] == place_of(turn, model) and model in turn.replies:
            panel(turn.replies[model], picked[1], settings, close)


@fragment
def starters(on_pick: Callable[[str], None]) -> None:
    """What may be asked first."""
    st.caption("Nothing has been said yet. Write below, or begin with one of these.")
    coloured_view(
        [], key="nothing yet", on_pick=lambda at: None
    )  # the browser fetches the component's code meanwhile
    with st.container(horizontal=True):
        for text in STARTERS:
            st.button(text, key=f"starter {text}", on_click=on_pick, args=(text,))


def header(models: list[str]) -> None:
    """The panes' names."""
    for column, model in zip(st.columns(len(models), gap="medium"), models, strict=True):
        with column:
            name_plate(model)
