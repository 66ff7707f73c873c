"""Chat: one to four models side by side; click any token to see why the model wrote it."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.engines import held
from workbench.ui.parts.notices import fault
from workbench.ui.views import chat, chat_continue, chat_kept, chat_passage, chat_snippets
from workbench.ui.views.chat_settings import DEFAULT, Settings, controls
from workbench.ui.views.chat_tokens import legend


def usual_mode() -> str:
    """The default mode: Chat for a model with a chat template, Continue for one without."""
    if "mode" in st.session_state or "mode" in st.query_params:
        return ""
    chosen = st.session_state.get("models") or st.query_params.get_all("models") or [DEFAULT]
    with held(str(chosen[0])) as served:
        return "Chat" if served.subject.tokenizer.chat_template else "Continue"


def conversation(settings: Settings) -> None:
    """Chat mode: saved conversations, the turns so far, and the message box."""
    chat_kept.arrive()

    def say(text: str) -> None:
        try:
            chat.send(chat.talk().say(text), settings)
        except WorkbenchError as error:
            st.session_state.setdefault("chat errors", {})[""] = str(error)

    chat_kept.tools()
    legend(settings.colour)
    if error := st.session_state.get("chat errors", {}).pop("", ""):
        fault(error)
    chat.header(settings.models)
    if chat.talk().turns:
        chat.show(settings)
    else:
        chat.starters(say)
    st.chat_input(
        "Your message", key="message", on_submit=lambda: say(str(st.session_state["message"]))
    )
    chat_snippets.of_chat(settings)


def continuation(settings: Settings) -> None:
    """Continue mode: a prompt and each model's continuations of it."""
    prompt = st.text_area(
        "Text to continue", chat_continue.PROMPT, key="prompt", bind="query-params", height=68
    )
    legend(settings.colour)
    if prompt:
        chat_continue.show(prompt, settings)
        chat_snippets.of_continuation(prompt, settings)


def passage(settings: Settings) -> None:
    """Passage mode: a question about a pasted text, answered by each model."""
    query = chat_passage.ask(settings)
    if query is not None:
        chat_passage.show(query, settings)
        chat_snippets.of_passage(query, settings)


st.title("What does it say, and why?")
st.caption(
    "Talk to one model or several side by side, and click any token to see why it was written."
)
settings = controls(usual_mode())
if not settings.models:
    st.info("Choose at least one model.", icon=":material/deployed_code:")
elif settings.mode == "Chat":
    conversation(settings)
elif settings.mode == "Continue":
    continuation(settings)
else:
    passage(settings)
