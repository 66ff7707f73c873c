"""A user's own data on the Train page: upload, preview, choice of columns, and use in a recipe."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from workbench.data import uploads
from workbench.data.notes import Notes
from workbench.errors import WorkbenchError
from workbench.training import Recipe
from workbench.training.tasks import KINDS, make
from workbench.training.texts import documents
from workbench.ui.parts.notices import fault
from workbench.ui.parts.words import escaped

NONE = "(none)"
SHOWN = 5
"""Rows or examples shown."""
HELD_OUT = 0.2
"""The least share of an uploaded data set that is held out: it has no test split and often few
rows.
"""


def with_own_data(name: str, recipe: Recipe) -> Recipe:
    """The recipe with the data and columns that were uploaded for it, if any."""
    own: dict[str, Any] = st.session_state.get(f"{name} own data", {})
    if not own:
        return recipe
    if recipe.kind == "pretrain":
        corpus = replace(recipe.corpus, sources=[own["data"]], column=own.get("text", ""))
        return replace(recipe, corpus=corpus)
    unchanged = {
        word: value for word, value in recipe.task.items() if word not in ("data", "test", "labels")
    }
    corpus = replace(recipe.corpus, validation=max(recipe.corpus.validation, HELD_OUT))
    return replace(recipe, task={**unchanged, **own}, corpus=corpus)


def own_data(name: str, recipe: Recipe) -> None:
    """Show an uploader with a preview; the chosen data goes into the form of the recipe `name`."""
    with st.expander("Use your own data", icon=":material/upload_file:"):
        several = recipe.kind == "pretrain"
        words = "Texts" if several else "A labelled file"
        given = st.file_uploader(
            words,
            accept_multiple_files=several,
            key=f"{name} upload",
            help="Stored in the home folder of the workbench; nothing leaves this machine.",
        )
        files = [] if given is None else given if isinstance(given, list) else [given]
        if not files:
            st.caption(
                "Text, Markdown, JSON lines, CSV or Parquet; several files form one corpus."
                if several
                else "CSV, TSV, JSON, JSON lines, Parquet or CoNLL, compressed or not; you choose "
                "the columns."
            )
            return
        try:
            path = uploads.keep([(file.name, file.getvalue()) for file in files])
            own = _corpus(path) if several else _labelled(name, path, recipe)
        except WorkbenchError as error:
            fault(error)
            return
        st.button(
            "Use this data",
            type="primary",
            key=f"{name} use",
            on_click=_use,
            args=(name, own, recipe),
        )
        used = st.session_state.get(f"{name} own data")
        if used == own:
            st.success("The form below uses it.", icon=":material/check:")


def _use(name: str, own: dict[str, Any], recipe: Recipe) -> None:
    """Remember the choice, and write it into the form's fields, which keep their old values."""
    st.session_state[f"{name} own data"] = own
    box = "sources" if recipe.kind == "pretrain" else "data"
    st.session_state[f"{name} {box}"] = own["data"]
    st.session_state[f"{name} text"] = with_own_data(name, recipe).to_toml()


def _corpus(path: Path) -> dict[str, Any]:
    own: dict[str, Any] = {"data": str(path)}
    if uploads.is_table(path):
        table = uploads.look_at(path, ("text",))
        st.dataframe(pd.DataFrame(table.rows[:SHOWN]).astype(str), hide_index=True)
        own["text"] = _column("text", table, optional=False)
    notes = Notes()
    texts = list(islice(documents([str(path)], column=own.get("text", ""), notes=notes), 200))
    _remarks(notes.lines())
    count = f"{len(texts)}{'+' if len(texts) == 200 else ''}"
    st.caption(f"The first of {count} documents, as the model will see it:")
    st.code(texts[0][:600], language=None, wrap_lines=True)
    return own


def _labelled(name: str, path: Path, recipe: Recipe) -> dict[str, Any]:
    kind = str(recipe.task.get("kind") or make(recipe.task).kind)
    task = KINDS[kind]
    own: dict[str, Any] = {"kind": kind, "data": str(path)}
    table = uploads.look_at(path, task.parts)
    if table.columns:
        st.dataframe(pd.DataFrame(table.rows[:SHOWN]).astype(str), hide_index=True)
        for part in task.parts:
            chosen = _column(part, table, optional=kind == "chat")
            if chosen:
                own[part] = chosen
    _remarks(table.remarks)
    notes = Notes()
    items = make(own).preview(path, notes)
    _remarks(notes.lines())
    st.caption(f"The first of {len(items)} examples, as the task reads them:")
    st.dataframe(pd.DataFrame([_shown(item) for item in items[:SHOWN]]), hide_index=True)
    return own


def _shown(item: dict[str, Any]) -> dict[str, str]:
    """An example's parts as text; a conversation as its turns, each after its speaker."""
    if "messages" in item:
        turns = (f"{message['role']}: {message['content']}" for message in item["messages"])
        return {"conversation": " / ".join(turns)}
    return {
        part: " ".join(value) if isinstance(value, list) else str(value)
        for part, value in item.items()
    }


def _column(part: str, table: uploads.Preview, *, optional: bool) -> str:
    """A box to choose the column for a part of the task; the guessed one is chosen at first."""
    options = [NONE, *table.columns] if optional else list(table.columns)
    guessed = "" if optional else table.guess.get(part, "")
    index = options.index(guessed) if guessed in options else 0
    words = f"Column with the {part}"
    help_text = "Leave all at (none) if the file has a standard chat format." if optional else None
    chosen = st.selectbox(
        words, options, index=index, key=f"{part} column of {table.columns}", help=help_text
    )
    return "" if chosen in (None, NONE) else str(chosen)


def _remarks(lines: list[str]) -> None:
    for line in lines:
        st.caption(f":material/info: {escaped(line)}")
