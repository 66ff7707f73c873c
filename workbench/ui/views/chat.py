"""A conversation on the Chat page: its turns, and the replies of several models side by side."""

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
"""Seconds between two updates while replies are being written."""
FIRST = 0.25
"""Seconds to wait for the first tokens before anything is drawn."""
STARTERS = (
    "Tell me a story about a dog.",
    "What is the capital of France?",
    "Write a line about the sea.",
)


def talk() -> Talk:
    """The conversation of this session."""
    return st.session_state.setdefault("talk", Talk())


def writings() -> dict[str, Writing]:
    """The replies that are being written, by their place (`place_of`)."""
    return st.session_state.setdefault("writings", {})


def busy() -> bool:
    """Whether anything is being written."""
    return any(not writing.growing.done for writing in writings().values())


def body(model: str, messages: list[dict[str, str]], settings: Settings) -> ChatRequest:
    """The API request for the next reply.

    Args:
        model: Name of the model.
        messages: The conversation so far.
        settings: Of sampling.
    """
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
    """Start every model's reply to a turn."""
    st.session_state.pop("picked", None)
    talk().system = settings.system
    for model in settings.models:
        try:
            messages = talk().messages(model, turn)
            writings()[place_of(turn, model)] = begin(body(model, messages, settings))
        except WorkbenchError as error:
            st.session_state.setdefault("chat errors", {})[place_of(turn, model)] = str(error)


def place_of(turn: Turn, model: str) -> str:
    """The key of a reply: its turn's number and its model."""
    return f"{turn.number} {model}"


def pick(place: str, at: int) -> None:
    """Open the panel of a token, or close it if it is open."""
    st.session_state["picked"] = (
        None if st.session_state.get("picked") == (place, at) else (place, at)
    )


def close() -> None:
    """Close the panel."""
    st.session_state["picked"] = None


def show(settings: Settings) -> None:
    """Show the conversation, redrawn while replies are being written."""
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
    """Move finished replies into the conversation, and start their scoring by the other model."""
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
            except (WorkbenchError, RuntimeError) as error:
                # The engine failed, or the two models cannot be compared.
                if model not in turn.replies:
                    st.session_state.setdefault("chat errors", {})[place_of(turn, model)] = str(
                        error
                    )


def transcript(settings: Settings) -> None:
    """Show the turns of the current branch."""
    for turn in talk().path():
        user_turn(turn, settings)
        for column, model in zip(
            st.columns(len(settings.models), gap="medium"), settings.models, strict=True
        ):
            with column:
                reply_pane(turn, model, settings)
        token_panel(turn, settings)
    if busy():
        st.button("Stop", icon=":material/stop_circle:", key="stop writing", on_click=stop)


def stop() -> None:
    """Stop all replies that are being written; what they have so far stays."""
    for writing in writings().values():
        writing.growing.cancel()
        writing.growing.wait(5, whole=True)


def user_turn(turn: Turn, settings: Settings) -> None:
    """Show the user's message with buttons to edit it, regenerate replies, or switch branches."""
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
        st.button(
            "",
            icon=":material/edit:",
            key=f"edit {number}",
            type="tertiary",
            help="Edit this message; the original stays as a branch",
            on_click=lambda: st.session_state.update(editing=number),
        )
        st.button(
            "",
            icon=":material/refresh:",
            key=f"again {number}",
            type="tertiary",
            help="Regenerate the replies with the settings above",
            on_click=lambda: send(talk().say_instead(turn, turn.text), settings),
        )
        if talk().at != number:
            st.button(
                "",
                icon=":material/alt_route:",
                key=f"branch {number}",
                type="tertiary",
                help="Continue from here; the turns below stay as a branch",
                on_click=lambda: talk().branch(turn),
            )


def step(words: str, turn: Turn, possible: bool) -> None:
    """A button to the previous or next branch.

    Args:
        words: Its label.
        turn: The turn to show.
        possible: Whether there is such a branch.
    """
    st.button(
        words,
        key=f"{words} {turn.number}",
        type="tertiary",
        disabled=not possible,
        on_click=lambda: talk().show(turn),
        help="Another branch",
    )


def edit(turn: Turn, settings: Settings) -> None:
    """A field to edit the message of a turn."""
    st.text_area("Edit message", turn.text, key="instead", label_visibility="collapsed")

    def resend() -> None:
        st.session_state["editing"] = None
        try:
            send(talk().say_instead(turn, str(st.session_state["instead"])), settings)
        except WorkbenchError as error:
            st.session_state.setdefault("chat errors", {})[""] = str(error)

    st.button("Send", type="primary", key="resend", on_click=resend)
    st.button("Cancel", key="cancel edit", on_click=lambda: st.session_state.update(editing=None))


def reply_pane(turn: Turn, model: str, settings: Settings) -> None:
    """Show one model's reply to a turn, finished or not.

    Args:
        turn: The turn.
        model: Name of the model.
        settings: Of the page.
    """
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
        st.caption("This model did not reply to this turn.")


def token_panel(turn: Turn, settings: Settings) -> None:
    """Show the panel of the clicked token below its turn."""
    picked = st.session_state.get("picked")
    for model in settings.models:
        if picked and picked[0] == place_of(turn, model) and model in turn.replies:
            panel(turn.replies[model], picked[1], settings, close)


@fragment
def starters(on_pick: Callable[[str], None]) -> None:
    """Suggestions for a first message."""
    st.caption("No messages yet. Write below, or start with one of these.")
    # Shown empty so that the browser fetches the component's code early.
    coloured_view([], key="nothing yet", on_pick=lambda at: None)
    with st.container(horizontal=True):
        for text in STARTERS:
            st.button(text, key=f"starter {text}", on_click=on_pick, args=(text,))


def header(models: list[str]) -> None:
    """Show the name of each model above its column."""
    for column, model in zip(st.columns(len(models), gap="medium"), models, strict=True):
        with column:
            name_plate(model)
