"""Chat: one to four models on the same words, every token of which can be asked why it came."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.engines import held
from workbench.ui.parts.notices import fault
from workbench.ui.views import chat, chat_continue, chat_kept, chat_passage, chat_snippets
from workbench.ui.views.chat_settings import DEFAULT, Settings, controls
from workbench.ui.views.chat_tokens import legend


def usual_mode() -> str:
    """Chat for a model with a chat template, Continue for one without."""
    if "mode" in st.session_state or "mode" in st.query_params:
        return ""
    chosen = st.session_state.get("models") or st.query_params.get_all("models") or [DEFAULT]
    with held(str(chosen[0])) as served:
        return "Chat" if served.subject.tokenizer.chat_template else "Continue"


def conversation(settings: Settings) -> None:
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
    prompt = st.text_area(
        "Text to go on with", chat_continue.PROMPT, key="prompt", bind="query-params", height=68
    )
    legend(settings.colour)
    if prompt:
        chat_continue.show(prompt, settings)
        chat_snippets.of_continuation(prompt, settings)


def passage(settings: Settings) -> None:
    query = chat_passage.ask(settings)
    if query is not None:
        chat_passage.show(query, settings)
        chat_snippets.of_passage(query, settings)


st.title("What does it say, and why?")
st.caption("Talk to a model, or to several side by side; then click any token to ask why it came.")
settings = controls(usual_mode())
if not settings.models:
    st.info("Choose at least one model.", icon=":material/deployed_code:")
elif settings.mode == "Chat":
    conversation(settings)
elif settings.mode == "Continue":
    continuation(settings)
else:
    passage(settings)
