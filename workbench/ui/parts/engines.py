"""The service's models and engines on a page: the page and the API ask the same ones, by the same
requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.generation import Growing, Request
from workbench.serving.chat import Chat
from workbench.serving.completions import Completions
from workbench.serving.fields import ChatRequest, CompletionRequest
from workbench.serving.limits import ApiError
from workbench.serving.models import Served
from workbench.serving.server import shared_service
from workbench.serving.talk import Reply
from workbench.ui.parts.models import ask_before_a_download

TOP = 10
"""Alternatives requested for every token."""


@contextmanager
def held(name: str) -> Iterator[Served]:
    """The named model with its engine, kept in memory while the context lasts.

    Raises:
        WorkbenchError: There is no such model, or the service refuses the request.
    """
    models = shared_service().models
    if name not in models.loaded():
        ask_before_a_download(name)
    loading = nullcontext() if name in models.loaded() else st.spinner("Loading the model")
    try:
        with loading, models.use(name, listed=False) as served:
            yield served
    except ApiError as error:
        raise WorkbenchError(error.message) from error


@dataclass
class Writing:
    """A reply that is being generated; `settings` are the request's fields but for its text."""

    model: str
    sha256: str
    growing: Growing
    settings: dict[str, Any]

    def reply(self) -> Reply:
        """The reply so far. Raises the error that ended it, if any."""
        growing = self.growing
        prompt = list(growing.request.prompt)
        if growing.done:
            whole = growing.completion()
            return Reply.of(
                whole, model=self.model, sha256=self.sha256, prompt=prompt, settings=self.settings
            )
        ids = growing.ids()
        scores = growing.scores()
        n = min(len(ids), len(scores))  # a token may come between the two looks
        return Reply(
            self.model, self.sha256, growing.text(), prompt, ids[:n], scores[:n], "", self.settings
        )


def begin(body: ChatRequest | CompletionRequest) -> Writing:
    """Start generating, as the API would; with fewer new tokens where the context is nearly full.

    Raises:
        WorkbenchError: The model cannot be loaded, or the text fills its context.
    """
    limits = shared_service().limits
    with held(body.model) as served:
        subject = served.subject
        job: Chat | Completions
        if isinstance(body, ChatRequest):
            job = Chat(body, served, limits)
            n_prompt = len(job.prompt)
        else:
            job = Completions(body, served, limits)
            n_prompt = len(job.prompts[0])
        room = subject.n_ctx - n_prompt + 1
        if room < 1:
            raise WorkbenchError(
                f"The text has {n_prompt} tokens, but the context of {subject.name} holds only "
                f"{subject.n_ctx}; start again with a shorter text."
            )
        job.most = min(job.most, room)
        [request] = job.requests()
        growing = Growing(served.engine, request)
        return Writing(body.model, subject.hash, growing, settings_of(body))


def settings_of(body: ChatRequest | CompletionRequest) -> dict[str, Any]:
    """The fields of a request without its model and text."""
    return body.model_dump(exclude_none=True, exclude={"messages", "prompt", "model"})


def score(name: str, ids: list[int]) -> Growing:
    """Start scoring the tokens of a text that another model wrote."""
    with held(name) as served:
        return Growing(served.engine, Request(ids, 0, top=TOP, score_prompt=True))
