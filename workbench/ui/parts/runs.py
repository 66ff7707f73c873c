"""Runs on a page: choosing one, its status, live updates, and stopping or resuming it."""

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from workbench.errors import WorkbenchError
from workbench.store import Run, jobs
from workbench.ui.parts.notices import fault, warn
from workbench.ui.parts.titles import store as store
from workbench.ui.parts.words import ago, duration, escaped

LOOKS: dict[str, tuple[str, Any]] = {
    "queued": (":material/schedule:", "gray"),
    "running": (":material/play_circle:", "blue"),
    "done": (":material/check_circle:", "green"),
    "failed": (":material/error:", "red"),
    "cancelled": (":material/cancel:", "gray"),
    "interrupted": (":material/power_off:", "orange"),
}
"""Icon and colour of each status."""

EVERY = 1.0
"""Seconds between two updates of an active run."""

KEPT = 32
"""Runs whose metrics are cached in memory."""

_LOCK = threading.Lock()

LINES = 30
"""Lines of a log that are shown."""


# -- words --


def time_left(run: Run) -> float | None:
    """Seconds that an active run still needs, at its speed so far; None while that is unknown."""
    if not run.active or not run.started or run.progress < 0.01:
        return None
    return (time.time() - run.started) * (1 - run.progress) / run.progress


def when(run: Run) -> str:
    """When a run began and how long it took or still takes."""
    if run.status == "queued":
        return f"queued {ago(run.created)}, waiting to start"
    began = run.started or run.created
    if run.title.endswith("(shipped)"):
        return run.message
    if not run.active:
        return f"took {duration((run.ended or began) - began)}, ended {ago(run.ended or began)}"
    left = None if " left" in run.message else time_left(run)  # the run may know better
    return f"running for {duration(time.time() - began)}" + (
        f", about {duration(left)} left" if left else ""
    )


def label(run: Run) -> str:
    """What a run is called in a list: its creation time and title, which never change."""
    return f"{time.strftime('%d %b %H:%M:%S', time.localtime(run.created))} · {run.title}"


# -- widgets --


def metrics(run: Run) -> pd.DataFrame:
    """The metrics that a run has logged.

    Cached; an active run's are read again only so often that reading takes at most a fifth of the
    time.
    """
    cache = _metrics()
    with _LOCK:
        logged = cache.get(run.id)
    now = time.monotonic()
    if logged and (
        logged.ended == run.ended if not run.active else now - logged.read < 5 * logged.cost
    ):
        return logged.rows
    rows = store().metrics(run.id)
    with _LOCK:
        cache[run.id] = Logged(rows, run.ended, now, time.monotonic() - now)
        while len(cache) > KEPT:
            cache.pop(next(iter(cache)))
    return rows


@st.cache_resource(show_spinner=False)
def _metrics() -> "dict[str, Logged]":
    return {}


class Logged(NamedTuple):
    """Metrics as read: the run's end at that time, when they were read, and seconds it took."""

    rows: pd.DataFrame
    ended: float | None
    read: float
    cost: float


def status_line(run: Run) -> None:
    """Show status, title, time and log of a run, and its error if it failed."""
    icon, colour = LOOKS.get(run.status, LOOKS["queued"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(run.status, icon=icon, color=colour)
        st.markdown(f"**{escaped(run.title)}**", width="content")
        st.caption(when(run))
        logging = st.toggle("Log", key=f"log {run.id}", help="The last lines of the run's log.")
    if run.status == "failed":
        fault(run.error or "The run failed without an error message; see its log.")
    elif run.status == "interrupted":
        warn(
            f"The run was interrupted at {run.progress:.0%}: {run.error or 'its process ended'}.",
            icon=":material/power_off:",
        )
    if logging:
        text = jobs.tail(run.id, LINES, store())
        st.code(text or "The log is still empty.", language=None, wrap_lines=True)


def live(
    run_id: str,
    show: Callable[[Run], None] | None = None,
    *,
    stop: str = "Stop run",
    resumable: bool = False,
) -> None:
    """Show status, progress bar and stop button of a run, updated every second while it is active.

    Only this part of the page is redrawn; when the run ends, the whole page is, once.

    Args:
        run_id: The run.
        show: Draws more below the bar, such as curves; called at every update.
        stop: Label of the stop button.
        resumable: Whether a run that was cut short gets a button to resume it.
    """
    watching = store().get(run_id).active

    @st.fragment(run_every=EVERY if watching else None)
    def watch() -> None:
        run = store().get(run_id)
        if watching and not run.active:
            st.rerun()
        status_line(run)
        if run.active:
            bar, button = st.columns([4, 1], vertical_alignment="center")
            bar.progress(
                run.progress, text=f"{run.progress:.0%} · {escaped(run.message) or 'starting'}"
            )
            with button:
                _stop_button(run, stop)
        elif run.status in ("cancelled", "failed", "interrupted") and resumable:
            _resume_button(run)
        if show:
            show(run)

    watch()


def _resume_button(run: Run) -> None:
    help = "Continues from the run's last saved state, as if it had not stopped."
    if pressed(st.button, "Resume", f"resume {run.id}", icon=":material/resume:", help=help):
        st.session_state.pop(f"stopping {run.id}", None)
        try:
            jobs.resume(run.id, store())
        except WorkbenchError as error:
            fault(error)
        else:
            st.rerun()


def _stop_button(run: Run, words: str) -> None:
    key = f"stopping {run.id}"
    if st.session_state.get(key):
        st.button("Stopping", disabled=True, key=f"stopped {run.id}", width="stretch")
    elif st.button(words, icon=":material/stop_circle:", key=f"stop {run.id}", width="stretch"):
        st.session_state[key] = True
        # cancel() waits until the worker is gone; the page does not.
        threading.Thread(target=jobs.cancel, args=(run.id, store()), daemon=True).start()
        st.rerun(scope="fragment")


def pressed(button: Callable[..., bool], words: str, key: str, **more: Any) -> bool:
    """Whether a button was pressed: true exactly once per click.

    Streamlit reports one click to two runs of the script when the first run is cut short, which
    must not start a second job. The button's callback runs only once.

    Args:
        button: `st.button`, `st.form_submit_button`, or the same method of a container.
        words: Label of the button.
        key: Of the widget.
        more: Further arguments for the button.
    """
    button(words, key=key, on_click=_note_press, args=(key,), **more)
    return bool(st.session_state.pop(f"pressed {key}", False))


def _note_press(key: str) -> None:
    st.session_state[f"pressed {key}"] = True


def follow(run_id: str) -> None:
    """Redraw the page with this run chosen in `pick_run`."""
    st.session_state["run next"] = run_id
    st.rerun()


def pick_run(words: str, newest: list[Run]) -> Run | None:
    """A select box over runs, newest first; the chosen run, or None where there is none.

    The choice is in the URL as `run`. A run that only the URL names is looked up; an unknown one
    gives a warning and the newest run.
    """
    following = st.session_state.pop("run next", None)
    run_id = following or st.query_params.get("run")
    runs = {run.id: run for run in newest}
    if run_id and run_id not in runs:
        try:
            run = store().get(run_id)
            run_id = run.id
            runs = {run.id: run, **runs}
        except WorkbenchError as error:
            warn(error)
            run_id = None
    if not runs:
        return None
    if run_id and (following or "run box" not in st.session_state):
        st.session_state["run box"] = run_id
    chosen = st.selectbox(words, list(runs), format_func=lambda i: label(runs[i]), key="run box")
    st.query_params["run"] = chosen
    return runs[chosen]
