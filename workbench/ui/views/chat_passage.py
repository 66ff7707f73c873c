"""The Chat page's Passage mode: a question about a text, each answer's source, and its heads."""

from html import escape
from typing import NamedTuple

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.serving.fields import ChatRequest, CompletionRequest
from workbench.serving.models import Served
from workbench.serving.passage import (
    Fetched,
    Span,
    fetched,
    question_messages,
    question_text,
    span_tokens,
    spans,
)
from workbench.serving.talk import Reply
from workbench.ui.parts.bars import Bar, bars
from workbench.ui.parts.engines import TOP, held
from workbench.ui.parts.kept import kept
from workbench.ui.parts.links import page_link
from workbench.ui.parts.notices import fault, note
from workbench.ui.views.chat import EVERY, FIRST, close, pick
from workbench.ui.views.chat_continue import Continued, continued, prepare, stop
from workbench.ui.views.chat_panel import panel
from workbench.ui.views.chat_settings import Settings
from workbench.ui.views.chat_tokens import legend, name_plate, show_reply

CONTEXT = (
    "The lighthouse at Port Ellis was built in 1842 by Anna Reed, a young engineer from Leeds. "
    "It stands on a red cliff, and its lamp was first lit on a stormy night in March."
)
QUESTION = "Who built the lighthouse?"
LENGTH = 32
"""Tokens of an answer at most."""
SHOWN = 8
"""Heads shown."""
_STYLE = """<style>
.passage { font-size: 15px; line-height: 1.6; white-space: pre-wrap; overflow-wrap: anywhere; }
.passage mark { background: rgba(255, 193, 7, 0.5); color: inherit; border-radius: 3px;
  padding: 1px 2px; }
.passage mark.part { background: rgba(255, 193, 7, 0.22); }
</style>"""


class PassageQuery(NamedTuple):
    """A passage and a question about it."""

    context: str
    question: str


def body(model: str, query: PassageQuery) -> ChatRequest | CompletionRequest:
    """The API request for an answer: greedy, and one line for a model without a chat template."""
    with held(model) as served:
        chat = bool(served.subject.tokenizer.chat_template)
    given = {"model": model, "max_tokens": LENGTH, "temperature": 0.0, "seed": 0}
    if chat:
        messages = question_messages(*query)
        return ChatRequest.model_validate(
            {**given, "messages": messages, "logprobs": True, "top_logprobs": TOP}
        )
    text = question_text(*query)
    return CompletionRequest.model_validate(
        {**given, "prompt": text, "stop": "\n", "logprobs": TOP}
    )


def ask(settings: Settings) -> PassageQuery | None:
    """Draw the fields for passage and question; None while one is empty."""
    context = st.text_area("Passage", CONTEXT, key="passage", bind="query-params", height=120)
    question = st.text_input("Question", QUESTION, key="question", bind="query-params")
    query = PassageQuery((context or "").strip(), (question or "").strip())
    legend(settings.colour)
    if not all(query):
        st.info("Paste a passage and ask a question about it.", icon=":material/edit:")
        return None
    return query


def show(query: PassageQuery, settings: Settings) -> None:
    """Show every model's answer, redrawn while they are being written."""
    pieces = {
        (model, ""): continued(f"passage {model}", body(model, query)) for model in settings.models
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
        for column, model in zip(
            st.columns(len(pieces), gap="medium"), settings.models, strict=True
        ):
            with column:
                answered(model, pieces[model, ""], query, settings)
        opened(pieces, settings)
        if busy:
            st.button(
                "Stop",
                icon=":material/stop_circle:",
                key="stop writing",
                on_click=stop,
                args=(pieces,),
            )

    watch()


def answered(model: str, piece: Continued, query: PassageQuery, settings: Settings) -> None:
    """Show one model's answer, its place in the passage, and the heads that copied it.

    Args:
        model: Name of the model.
        piece: The answer so far.
        query: Passage and question.
        settings: Of the page.
    """
    name_plate(model)
    reply = piece.reply()
    if reply is None:
        fault(piece.error)
        return
    with st.container(border=True):
        st.caption("The answer")
        show_reply(reply, settings, f"passage {model}", on_pick=pick)
    if not reply.reason:
        return
    prepare(reply, settings)
    places = spans(query.context, reply.text, query.question)
    marked(query.context, places)
    if not places:
        st.caption("The answer does not occur in the passage.")
        return
    if not places[0].exact:
        st.caption("Only part of the answer occurs in the passage.")
    try:
        with held(model) as served:
            fetch = heads(reply, query, tuple(places), served)
    except WorkbenchError as error:
        note(error)
        return
    carried(model, reply, fetch)


def marked(context: str, places: list[Span]) -> None:
    """Show the passage with the answer's places marked."""
    parts = []
    at = 0
    for place in places:
        kind = "" if place.exact else ' class="part"'
        parts += [
            escape(context[at : place.start]),
            f"<mark{kind}>{escape(context[place.start : place.stop])}</mark>",
        ]
        at = place.stop
    st.html(f'{_STYLE}<div class="passage">{"".join(parts)}{escape(context[at:])}</div>')


def heads(reply: Reply, query: PassageQuery, places: tuple[Span, ...], served: Served) -> Fetched:
    """Each head's contribution to the answer from its places in the passage, cached.

    Args:
        reply: The answer.
        query: Passage and question.
        places: Where the answer occurs in the passage.
        served: The model.
    """
    return _heads(reply.sha256, tuple(reply.prompt), tuple(reply.ids), query, places, served)


@kept("contributions of heads", 64, "Computing every head's contribution")
def _heads(
    sha256: str,
    prompt: tuple[int, ...],
    ids: tuple[int, ...],
    query: PassageQuery,
    places: tuple[Span, ...],
    _served: Served,
) -> Fetched:
    with _served.lock:
        sources = span_tokens(_served.subject, prompt, *query, places)
        return fetched(_served.subject, prompt, ids, sources)


def carried(model: str, reply: Reply, fetch: Fetched) -> None:
    """Show the heads with the largest contribution, with a link to the first one's attention.

    Args:
        model: Name of the model.
        reply: The answer.
        fetch: Of `heads`.
    """
    st.markdown("**Which heads copied it**")
    rows = fetch.to_frame().head(SHOWN)
    bars(
        [
            Bar(head, (part,), f"{part:+.2f} of {whole:+.2f}")
            for head, part, whole in zip(
                rows["head"], rows["from_span"], rows["total"], strict=True
            )
        ],
        signed=True,
    )
    st.caption(
        "Each head's contribution to the answer's logit difference: the part that comes from the "
        f"marked words, and its total; means over {fetch.n} tokens, each against the most likely "
        "other token."
    )
    with held(model) as served:
        import torch

        text = served.subject.text(torch.tensor(reply.prompt))
    best = str(rows["head"].iloc[0])
    page_link(
        "attention",
        f"Attention of {best}",
        icon=":material/grid_on:",
        model=model,
        prompt=text,
        head=best,
    )


def opened(pieces: dict[tuple[str, str], Continued], settings: Settings) -> None:
    """Show the panel of the clicked token."""
    picked = st.session_state.get("picked")
    for (model, _), piece in pieces.items():
        reply = piece.reply()
        if reply is not None and picked and picked[0] == f"passage {model}":
            panel(reply, picked[1], settings, close)
