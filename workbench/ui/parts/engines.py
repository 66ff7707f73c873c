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
"""Alternatives that are asked for with every token."""


@contextmanager
def held(name: str) -> Iterator[Served]:
    """The named model with its engine, in memory at least as long as the context lasts.

    Raises `WorkbenchError` for a name that is none, and for whatever the service refuses meanwhile.
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
    """A reply in the making; `settings` are the fields of the request that it hangs on."""

    model: str
    sha256: str
    growing: Growing
    settings: dict[str, Any]

    def reply(self) -> Reply:
        """The reply as far as it goes. Raises what went wrong with it."""
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
    """Ask a model, as the API would be asked; fewer new tokens where the context has no room for
    all.

    Raises `WorkbenchError` for what cannot be asked.
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
                f"The text has {n_prompt} tokens, and the context of {subject.name} holds {subject.n_ctx}; begin anew "
                "with a shorter one."
            )
        job.most = min(job.most, room)
        [request] = job.requests()
        growing = Growing(served.engine, request)
        return Writing(body.model, subject.hash, growing, settings_of(body))


def settings_of(body: ChatRequest | CompletionRequest) -> dict[str, Any]:
    """The fields of a request but for what is said in it."""
    return body.model_dump(exclude_none=True, exclude={"messages", "prompt", "model"})


def score(name: str, ids: list[int]) -> Growing:
    """Have a model read a text that another wrote, and score its tokens."""
    with held(name) as served:
        return Growing(served.engine, Request(ids, 0, top=TOP, score_prompt=True))
