"""The Runs page's tables: runs with their settings, and edited models."""

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from workbench.comparison.lineage import dependants
from workbench.errors import WorkbenchError
from workbench.store import Run
from workbench.store.settings import differing, outcome, settings
from workbench.subjects.intervention import (
    delete_intervention,
    read_intervention,
    rename_intervention,
    saved,
)
from workbench.ui.parts import runs as ui
from workbench.ui.parts.links import page_link
from workbench.ui.parts.notices import fault, note
from workbench.ui.parts.titles import renamed
from workbench.ui.parts.words import called, duration

MOST = 200
"""Runs that a table shows."""
MOST_SETTINGS = 4
"""Settings that it shows at first."""
PAGE_OF = {
    "train": ("train", "Train"),
    "finetune": ("train", "Train"),
    "eval": ("benchmarks", "Benchmarks"),
}
"""The page that shows a kind of run, and its title."""
ALL = "all"


def find() -> list[Run]:
    """Boxes to search by text, kind and tag; the runs that they leave."""
    text_box, kind_box, tag_box = st.columns([4, 2, 2])
    text = text_box.text_input(
        "Search",
        key="search",
        bind="query-params",
        placeholder="Title, id or any setting, such as lora",
    )
    every = ui.store().list(limit=MOST)  # also the answer where nothing is searched for
    kinds = sorted({run.kind for run in every})
    kind = kind_box.selectbox("Kind", [ALL, *kinds], key="kind", bind="query-params")
    tag = tag_box.selectbox("Tag", [ALL, *ui.store().tags()], key="tag", bind="query-params")
    if not text and kind == ALL and tag == ALL:
        return every
    return ui.store().list(
        None if kind == ALL else kind,
        limit=MOST,
        search=text or "",
        tag="" if tag == ALL else str(tag),
    )


def table(listed: list[Run]) -> list[Run]:
    """The table of runs, with the settings in which they differ; those that are selected."""
    names = list(dict.fromkeys(name for run in listed for name in settings(run)))
    shown = st.multiselect(
        "Settings shown",
        names,
        _telling(listed)[:MOST_SETTINGS],
        key=f"settings of {'-'.join(sorted({run.kind for run in listed}))}",
        help="At first, those in which the listed runs differ most.",
    )
    rows = [_row(run, shown) for run in listed]
    picked: Any = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=min(38 + 35 * len(rows), 420),
        on_select="rerun",
        selection_mode="multi-row",
        key="runs",
        column_config={
            "Title": st.column_config.TextColumn(width="medium"),
            "Came to": st.column_config.TextColumn(width="medium"),
            "Began": st.column_config.DatetimeColumn(format="D MMM, HH:mm"),
        },
    )
    return [listed[row] for row in picked.selection.rows if row < len(listed)]


def _telling(listed: list[Run]) -> list[str]:
    """The settings in which runs of the same kind differ."""
    kinds = sorted({run.kind for run in listed})
    names = [n for kind in kinds for n in differing([r for r in listed if r.kind == kind])]
    return list(dict.fromkeys(names))


def _row(run: Run, shown: list[str]) -> dict[str, Any]:
    own = settings(run)
    took = (run.ended or run.created) - (run.started or run.created)
    return {
        "Title": run.title,
        "Kind": run.kind,
        "State": run.status,
        "Came to": outcome(run),
        "Tags": list(run.tags),
        "Began": datetime.fromtimestamp(run.created, UTC),
        "Took": "" if run.active else duration(took),
        **{name: _short(own.get(name)) for name in shown},
        "Id": run.id,
    }


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def one(run: Run) -> None:
    """Open, rename, tag or delete a run."""
    st.subheader(called(f"run:{run.id}"))
    with st.container(horizontal=True, vertical_alignment="center"):
        if run.kind in PAGE_OF:
            page, title = PAGE_OF[run.kind]
            page_link(page, f"Open in {title}", icon=":material/open_in_new:", run=run.id)
        if run.checkpoints:
            page_link("chat", "Chat", icon=":material/forum:", models=[f"run:{run.id}"])
            page_link("attention", "Attention", icon=":material/grid_on:", model=f"run:{run.id}")
        st.caption(ui.when(run))
    title_box, button = st.columns([5, 1], vertical_alignment="bottom")
    title = title_box.text_input("Title", run.title, key=f"title {run.id} {run.title}")
    if ui.pressed(button.button, "Rename", f"rename {run.id}", width="stretch"):
        _do(lambda: ui.store().rename(run.id, title or ""))
    tags_of([run])
    remove([run])


def several(runs: list[Run]) -> None:
    """In which settings the selected runs differ; tags for all of them, or delete them."""
    st.subheader(f"{len(runs)} runs")
    names = differing(runs)
    if names:
        titles = ui.store().titles([run.id for run in runs])
        columns = {titles[run.id]: [_short(settings(run).get(n)) for n in names] for run in runs}
        st.dataframe(pd.DataFrame({"Setting": names, **columns}), hide_index=True)
        same = len(set().union(*(settings(run) for run in runs))) - len(names)
        st.caption(f"The settings in which they differ; {same} others are the same.")
    else:
        st.caption("They have the same settings.")
    tags_of(runs)
    remove(runs)


def tags_of(runs: list[Run]) -> None:
    """A box with the tags that all the runs have; a change is made to each of them."""
    shared = sorted(set.intersection(*(set(run.tags) for run in runs)))
    key = f"tags {' '.join(run.id for run in runs)} {shared}"
    known = sorted({*ui.store().tags(), *shared})
    chosen = st.multiselect(
        "Tags",
        known,
        shared,
        key=key,
        accept_new_options=True,
        placeholder="Choose one, or type a new one and press Enter",
    )
    if set(chosen) == set(shared):
        return
    added = set(chosen) - set(shared)
    dropped = set(shared) - set(chosen)
    _do(lambda: [ui.store().tag(r.id, sorted((set(r.tags) | added) - dropped)) for r in runs])


def remove(runs: list[Run]) -> None:
    """A button that deletes runs, after what is lost with them has been said."""
    active = [run for run in runs if run.active]
    with st.popover("Delete", icon=":material/delete:", disabled=bool(active)):
        lost = sum(len(run.checkpoints) for run in runs)
        st.markdown(
            f"The settings, metrics and results of {_runs(len(runs))}, and {lost} checkpoints, are "
            "deleted for good."
        )
        chosen = {run.id for run in runs}
        names = {name for run in runs if run.checkpoints for name in dependants(f"run:{run.id}")}
        _say_dependants({name for name in names if name.removeprefix("run:") not in chosen})
        if ui.pressed(st.button, "Delete for good", f"delete {' '.join(chosen)}", type="primary"):
            _do(lambda: [ui.store().delete(run.id) for run in runs])
    if active:
        st.caption("A run that is under way is stopped first, on its own page.")


def _runs(n: int) -> str:
    return "this run" if n == 1 else f"{n} runs"


def _say_dependants(names: set[str]) -> None:
    if names:
        listed = ", ".join(called(name) for name in sorted(names))
        st.markdown(f":material/warning: Made from it, and no longer loaded without it: {listed}.")


def edits() -> None:
    """The table of edited models; rename or delete the selected one."""
    names = [path.stem for path in saved()]
    if not names:
        note(
            "No edited model is kept yet. Circuits, Steering, Patching and Transplant make them: a "
            "model without some heads, with a steered layer, or with parts of another model."
        )
        return
    changes = []
    for name in names:
        try:
            changes.append(read_intervention(name))
        except WorkbenchError as error:
            fault(error)
    frame = pd.DataFrame(
        {
            "Name": [change.name for change in changes],
            "Made from": [called(change.base) for change in changes],
            "What it does": [change.words for change in changes],
            "Edits": [len(change.edits) for change in changes],
        }
    )
    picked: Any = st.dataframe(
        frame, hide_index=True, on_select="rerun", selection_mode="single-row", key="edits"
    )
    rows = [row for row in picked.selection.rows if row < len(changes)]
    if not rows:
        st.caption("Select a row to open, rename or delete it.")
        return
    one_edit(changes[rows[0]].name)


def one_edit(name: str) -> None:
    """Open, rename or delete an edited model."""
    full = f"edit:{name}"
    st.subheader(called(name))
    with st.container(horizontal=True):
        page_link("chat", "Chat", icon=":material/forum:", models=[full])
        page_link("attention", "Attention", icon=":material/grid_on:", model=full)
        page_link("benchmarks", "Benchmarks", icon=":material/scoreboard:", models=[full])
    others = set(dependants(full))
    name_box, button = st.columns([5, 1], vertical_alignment="bottom")
    new = name_box.text_input("Name", name, key=f"name {name}", disabled=bool(others))
    renamed = ui.pressed(
        button.button, "Rename", f"rename {name}", width="stretch", disabled=bool(others)
    )
    if renamed:
        _do(lambda: rename_intervention(name, new or ""))
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown("The edited model is deleted for good; the model it was made from stays.")
        _say_dependants(others)
        if ui.pressed(st.button, "Delete for good", f"delete {name}", type="primary"):
            _do(lambda: delete_intervention(name))


def _do(change: Any) -> None:
    """Make a change and draw the page again, or say why it cannot be made."""
    try:
        change()
    except WorkbenchError as error:
        fault(error)
    else:
        renamed()
        st.rerun()
