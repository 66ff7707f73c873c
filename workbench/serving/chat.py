"""POST /v1/chat/completions: the next turn of a conversation."""

from collections.abc import AsyncIterator
from typing import Any

from workbench.errors import WorkbenchError
from workbench.generation import Completion, Request, end_tokens
from workbench.serving.asking import (
    Piece,
    Texts,
    check_stream_options,
    sampling_of,
    stops_of,
    wants_usage,
)
from workbench.serving.choices import seeded
from workbench.serving.fields import ChatMessage, ChatRequest
from workbench.serving.inside import check_one, looked_inside
from workbench.serving.limits import ApiError, Limits
from workbench.serving.models import Served
from workbench.serving.shapes import REASONS, Answer, chat_logprobs, usage
from workbench.subjects.chat import chat_prompt

MOST = 512
"""New tokens if the request sets no maximum; fewer if the context has no room."""


class Chat:
    """One request for the next turn of a conversation.

    Args:
        body: The request's fields.
        served: The model.
        limits: Of the service.

    Raises:
        ApiError: For fields that exclude each other or that the model does not support.
    """

    def __init__(self, body: ChatRequest, served: Served, limits: Limits) -> None:
        self.body = body
        self.served = served
        self.limits = limits
        self.n = body.n or 1
        check_one(body.workbench, self.n, bool(body.stream))
        if body.top_logprobs and not body.logprobs:
            raise ApiError(
                400, "top_logprobs are given with logprobs; set logprobs.", param="top_logprobs"
            )
        check_stream_options(body)
        tokenizer = served.subject.tokenizer
        if body.tools and "tools" not in str(tokenizer.chat_template or ""):
            raise ApiError(400, f"The chat template of {body.model} knows no tools.", param="tools")
        try:
            rendered = chat_prompt(tokenizer, [_message(m) for m in body.messages], body.tools)
        except WorkbenchError as error:
            raise ApiError(400, str(error), param="messages") from error
        self.prompt, self.plain, self.stops = rendered
        room = served.subject.n_ctx - len(self.prompt) + 1
        self.most = body.max_completion_tokens or body.max_tokens or max(1, min(MOST, room))
        self.answer = Answer("chat.completion", "chatcmpl", served.subject, body.model)

    def requests(self) -> list[Request]:
        """The engine's requests: one for each of `n` texts."""
        sampling = sampling_of(self.body)
        subject = self.served.subject
        stops = [*stops_of(self.body), *self.stops]
        top = (self.body.top_logprobs or 0) if self.body.logprobs else None
        ends = end_tokens(subject)
        return [
            Request(
                self.prompt, self.most, seeded(sampling, index), stops=stops, ends=ends, top=top
            )
            for index in range(self.n)
        ]

    async def whole(self) -> dict[str, Any]:
        """The whole answer as OpenAI's chat.completion object."""
        requests = self.requests()
        completions = await Texts(self.served, requests, self.limits).completions()
        choices = [self._choice(index, completion) for index, completion in enumerate(completions)]
        inside = await looked_inside(
            self.body.workbench, self.served, [self.prompt], [(0, c) for c in completions]
        )
        return self.answer.part(
            choices,
            usage=usage([self.prompt], completions),
            workbench=self.answer.workbench(
                seed=requests[0].sampling.seed,
                template="plain" if self.plain else "model's",
                **inside,
            ),
        )

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        tokenizer = self.served.subject.tokenizer
        body = self.body
        return {
            "index": index,
            "message": {"role": "assistant", "content": completion.text, "refusal": None},
            "logprobs": chat_logprobs(tokenizer, completion.scores, body.top_logprobs or 0)
            if body.logprobs
            else None,
            "finish_reason": REASONS[completion.reason],
        }

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """The answer as chunks of a stream."""
        texts = Texts(self.served, self.requests(), self.limits)
        ended: dict[int, Completion] = {}
        for index in range(self.n):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        try:
            async for piece in texts.pieces():
                if piece.ended is not None:
                    ended[piece.index] = piece.ended
                yield self._grown(piece)
        finally:
            texts.cancel()
        if wants_usage(self.body):
            completions = [ended[index] for index in range(self.n)]
            yield self.answer.part([], chunk=True, usage=usage([self.prompt], completions))

    def _grown(self, piece: Piece) -> dict[str, Any]:
        if piece.ended is not None:
            delta = {"content": piece.text} if piece.text else {}
            return self._chunk(piece.index, delta, reason=REASONS[piece.ended.reason])
        scored = piece.token.scored if piece.token else None
        top = self.body.top_logprobs or 0
        logprobs = (
            None if scored is None else chat_logprobs(self.served.subject.tokenizer, [scored], top)
        )
        return self._chunk(piece.index, {"content": piece.text}, logprobs=logprobs)

    def _chunk(
        self, index: int, delta: dict[str, Any], *, logprobs: Any = None, reason: str | None = None
    ):
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self.answer.part([choice], chunk=True, workbench=self.answer.workbench())


def _message(turn: ChatMessage) -> dict[str, Any]:
    """A message as chat templates expect it: parts joined, and `developer` called `system`."""
    content = (
        turn.content
        if isinstance(turn.content, str)
        else "".join(part.text for part in turn.content)
    )
    message = {"role": "system" if turn.role == "developer" else turn.role, "content": content}
    return message if turn.name is None else {**message, "name": turn.name}
