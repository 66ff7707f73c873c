"""Choosing and loading models on a page: one cache for all pages, the choice in the URL."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx

from workbench import memory
from workbench.ui.parts.kept import kept
from workbench.ui.parts.notices import note
from workbench.ui.parts.titles import bare, option, titled

if TYPE_CHECKING:
    from workbench.subjects import Subject

KEPT = 4
"""Subjects kept in memory at once."""


def cached_load(name: str, *, seq2seq: bool = False, encoder: bool = False) -> "Subject":
    """The named Subject, loaded once and shared by all sessions; never modify it.

    A run without a step means its newest checkpoint. Files that have changed are loaded again.
    `seq2seq` and `encoder` as in `load`.
    """
    from workbench.subjects import resolve, stamp

    ask_before_a_download(name)
    exact = resolve(name)
    return _load(exact, seq2seq, encoder, stamp(exact))


def ask_before_a_download(name: str) -> None:
    """Stop the page at a model that must be downloaded until the user agrees.

    Without this, a link could start the download of any model.
    """
    from workbench.subjects.names import is_remote

    wanted = st.session_state.setdefault("models to fetch", set())
    if name in wanted or get_script_run_ctx(suppress_warning=True) is None or not is_remote(name):
        return
    note(f"{name} is not on this machine. Download it from Hugging Face?")
    if not st.button("Download it", key=f"fetch {name}", icon=":material/download:"):
        st.stop()
    wanted.add(name)


@kept("models of pages", KEPT, "Loading the model", weights=True)
def _load(name: str, seq2seq: bool, encoder: bool, stamp: str) -> "Subject":
    from workbench.subjects.shared import shared

    return shared(name, seq2seq=seq2seq, encoder=encoder)


def forget() -> None:
    """Unload all models and empty the caches of all sessions; locks stay, as they may be held."""
    memory.release()
    st.cache_data.clear()


@st.cache_resource(max_entries=64, show_spinner=False)
def alone(sha256: str) -> threading.RLock:
    """The lock to hold while running hooks on the Subject with this hash.

    Sessions share a Subject, so the hooks of one session would fire in another session's run.
    """
    return threading.RLock()


@contextmanager
def both_alone(base: "Subject", tuned: "Subject") -> Iterator[None]:
    """Hold both models' locks, always taken in the same order to avoid a deadlock."""
    first, second = sorted((base.hash, tuned.hash))
    with alone(first), alone(second):
        yield


def choices(*, seq2seq: bool = False, encoder: bool = False) -> list[str]:
    """Names of the models that can be loaded; encoder-decoders and encoders only if wanted."""
    from workbench.subjects import available
    from workbench.subjects.names import OTHERS

    left_out = (
        set(OTHERS) - ({"seq2seq"} if seq2seq else set()) - ({"encoder"} if encoder else set())
    )
    return [entry.name for entry in available() if entry.kind not in left_out]


def pick_subject(
    label: str = "Model", *, key: str = "model", default: str = "shelf-base"
) -> "Subject":
    """A select box over models, in which paths and Hugging Face ids can be typed; the Subject.

    Args:
        label: Of the box.
        key: Of the widget, and of the choice in the URL.
        default: Name of the model chosen at first.
    """
    return cached_load(pick_name(label, key=key, default=default))


def pick_name(
    label: str = "Model",
    *,
    key: str = "model",
    default: str = "shelf-base",
    seq2seq: bool = False,
    encoder: bool = False,
) -> str:
    """The select box of `pick_subject` without loading the model; the chosen name.

    Args:
        label: Of the box.
        key: Of the widget, and of the choice in the URL.
        default: Name of the model chosen at first.
        seq2seq: Whether encoder-decoder models are offered.
        encoder: Whether encoder-only models are offered.
    """
    options = choices(seq2seq=seq2seq, encoder=encoder)
    chosen = st.session_state.get(key) or st.query_params.get(key)
    current = bare(chosen or st.session_state.get(f"last {key}") or "")
    options = [*(name for name in (current, default) if name and name not in options), *options]
    if key not in st.session_state and chosen and current.startswith("run:"):
        st.query_params[key] = option(current)  # a link names the run alone
    elif key not in st.query_params and current and current != default:
        st.session_state[key] = current  # chosen on another page
        with suppress(StreamlitAPIException):  # the box writes it itself once it is drawn
            st.query_params[key] = option(current)
    name = st.selectbox(
        label,
        options,
        index=options.index(default) if default in options and key not in st.session_state else 0,
        format_func=option,
        key=key,
        bind="query-params",
        accept_new_options=True,
        help="A bundled model, a file below WORKBENCH_MODELS or a run; or type a folder, a .gguf "
        "file or a Hugging Face id.",
    )
    st.session_state[f"last {key}"] = bare(str(name))
    return bare(str(name))


def pick_two() -> tuple[str, str]:
    """Two select boxes for base and tuned model, and buttons for the base's known relatives.

    Where the URL names only one of the two, the other starts as its parent or child.
    """
    from workbench.comparison.lineage import lineage_pair, relatives

    given = {key: st.query_params.get(key) for key in ("base", "tuned")}
    if sum(map(bool, given.values())) == 1:
        # In the session state, not as a widget's default: the URL leaves out defaults.
        pair = dict(zip(given, lineage_pair(str(given["tuned"] or given["base"])), strict=True))
        st.session_state.setdefault(*next(item for item in pair.items() if not given[item[0]]))
    left, right = st.columns(2)
    with left:
        base = pick_name("Base", key="base", default="shelf-base")
    with right:
        tuned = pick_name("Tuned", key="tuned", default="shelf-tuned")
    known = {f"{titled(r.name)} ({r.how})": r.name for r in relatives(base) if r.name != tuned}
    if known:
        st.pills(
            "Relatives of the base",
            list(known),
            key="relative",
            on_change=lambda: _take(known),
            default=None,
        )
    return base, tuned


def _take(known: dict[str, str]) -> None:
    if chosen := st.session_state.pop("relative", None):
        st.session_state["tuned"] = known[chosen]
