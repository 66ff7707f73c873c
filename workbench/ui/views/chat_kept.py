"""Saved conversations of the Chat page, and their export; the URL names the saved one."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.serving.kept import keep, kept, read_talk
from workbench.serving.talk import Talk
from workbench.ui.parts.notices import fault
from workbench.ui.parts.words import ago, escaped
from workbench.ui.views.chat import busy, talk, writings


def arrive() -> None:
    """Open the saved conversation that the URL names, once."""
    name = st.query_params.get("chat")
    if not name or st.session_state.get("kept as") == name:
        return
    try:
        st.session_state["talk"] = read_talk(name)
        st.session_state["kept as"] = name
    except WorkbenchError as error:
        fault(error)
        del st.query_params["chat"]


def tools() -> None:
    """Buttons: new conversation, save, export, and the saved conversations."""
    empty = not talk().turns
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("New", icon=":material/add:", key="new talk", disabled=empty, on_click=begin_anew)
        st.button(
            "Saved" if st.session_state.get("kept as") else "Save",
            icon=":material/bookmark:",
            key="keep talk",
            disabled=empty or busy(),
            on_click=keep_this,
            help="Saves the conversation with all branches; the URL of this page then opens it. "
            "Save again after new turns.",
        )
        st.download_button(
            "Export",
            lambda: talk().export(),
            icon=":material/download:",
            file_name="chat.jsonl",
            mime="application/jsonl",
            disabled=empty or busy(),
            on_click="ignore",
            help="This branch as JSON lines, one line per model: a chat data set for Train.",
        )
        with st.popover("Saved conversations", icon=":material/history:"):
            listing()


def listing() -> None:
    """List the saved conversations, newest first."""
    entries = kept()
    if not entries:
        st.caption("None yet.")
    for entry in entries:
        words = f"{escaped(entry.title)} · {ago(entry.when)}"
        st.button(
            words, key=f"open {entry.name}", type="tertiary", on_click=reopen, args=(entry.name,)
        )


def begin_anew() -> None:
    """Start an empty conversation."""
    for writing in writings().values():
        writing.growing.cancel()
    for key in ("writings", "chat errors", "picked", "kept as", "editing"):
        st.session_state.pop(key, None)
    st.session_state["talk"] = Talk()
    st.query_params.pop("chat", None)


def keep_this() -> None:
    """Save the conversation in the home folder and put its name into the URL."""
    try:
        name = keep(talk(), st.session_state.get("kept as", ""))
    except WorkbenchError as error:
        st.session_state.setdefault("chat errors", {})[""] = str(error)
        return
    st.session_state["kept as"] = name
    st.query_params["chat"] = name


def reopen(name: str) -> None:
    """Open a saved conversation."""
    begin_anew()
    st.query_params["chat"] = name
