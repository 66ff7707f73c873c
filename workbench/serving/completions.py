"""POST /v1/completions: text that continues prompts."""

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
from workbench.serving.choices import best, seeded
from workbench.serving.fields import CompletionRequest
from workbench.serving.inside import check_one, looked_inside
from workbench.serving.limits import ApiError, Limits
from workbench.serving.models import Served
from workbench.serving.shapes import REASONS, Answer, Logprobs, usage

MOST = 16
"""New tokens if the request sets no maximum, as in OpenAI's API."""


class Completions:
    """One request for completions.

    Args:
        body: The request's fields.
        served: The model.
        limits: Of the service.

    Raises:
        ApiError: For fields that exclude each other, or an empty prompt.
    """

    def __init__(self, body: CompletionRequest, served: Served, limits: Limits) -> None:
        self.body = body
        self.served = served
        self.limits = limits
        self.n = body.n or 1
        self.best_of = body.best_of or self.n
        if self.best_of < self.n:
            raise ApiError(
                400, f"best_of is {self.best_of}, less than n, {self.n}.", param="best_of"
            )
        if body.stream and self.best_of > self.n:
            raise ApiError(
                400, "best_of cannot be streamed: the best is known at the end.", param="best_of"
            )
        if body.stream and body.echo and body.logprobs is not None:
            raise ApiError(400, "echo with logprobs comes whole; do not stream it.", param="echo")
        check_stream_options(body)
        self.most = MOST if body.max_tokens is None else body.max_tokens
        self.prompts, self.texts = self._read(body.prompt)
        check_one(body.workbench, self.best_of * len(self.prompts), bool(body.stream))
        self.answer = Answer("text_completion", "cmpl", served.subject, body.model)

    def _read(self, prompt: Any) -> tuple[list[list[int]], list[str]]:
        """Token ids and text of every prompt."""
        subject = self.served.subject
        many = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
        ids = []
        texts = []
        for each in many:
            try:
                ids.append(subject.ids(each) if isinstance(each, str) else list(each))
            except WorkbenchError as error:
                raise ApiError(400, str(error), param="prompt") from error
            if not ids[-1]:
                raise ApiError(400, "The prompt is empty; give at least one token.", param="prompt")
            known = all(token < subject.d_embed for token in ids[-1])
            texts.append(
                each if isinstance(each, str) else subject_text(subject, each) if known else ""
            )
        return ids, texts

    def requests(self) -> list[Request]:
        """The engine's requests: `best_of` texts for each prompt."""
        body = self.body
        sampling = sampling_of(body)
        stops = stops_of(body)
        ends = end_tokens(self.served.subject)
        top = body.logprobs if body.logprobs is not None else 0 if self.best_of > self.n else None
        return [
            Request(
                prompt,
                self.most,
                seeded(sampling, index),
                stops=stops,
                ends=ends,
                top=top,
                score_prompt=bool(body.echo) and body.logprobs is not None,
            )
            for prompt in self.prompts
            for index in range(self.best_of)
        ]

    async def whole(self) -> dict[str, Any]:
        """The whole answer as OpenAI's text_completion object."""
        requests = self.requests()
        completions = await Texts(self.served, requests, self.limits).completions()
        chosen = [
            (at, completion)
            for at in range(len(self.prompts))
            for completion in best(completions[at * self.best_of : (at + 1) * self.best_of], self.n)
        ]
        choices = [
            self._choice(index, at, completion) for index, (at, completion) in enumerate(chosen)
        ]
        inside = await looked_inside(self.body.workbench, self.served, self.prompts, chosen)
        return self.answer.part(
            choices,
            usage=usage(self.prompts, completions),
            workbench=self.answer.workbench(seed=requests[0].sampling.seed, **inside),
        )

    def _choice(self, index: int, at: int, completion: Completion) -> dict[str, Any]:
        body = self.body
        logprobs = None
        if body.logprobs is not None:
            lines = Logprobs(self.served.subject.tokenizer, self.prompts[at], echo=bool(body.echo))
            tokens = list(completion.ids)
            scores = list(completion.scores)
            if body.echo:
                tokens = [*self.prompts[at], *tokens]
                scores = [None, *completion.prompt_scores, *scores]
            logprobs = lines.of(tokens, scores, body.logprobs)
        text = (self.texts[at] if body.echo else "") + completion.text
        return {
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": REASONS[completion.reason],
        }

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """The answer as chunks of a stream."""
        body = self.body
        tokenizer = self.served.subject.tokenizer
        texts = Texts(self.served, self.requests(), self.limits)
        lines = [
            Logprobs(tokenizer, self.prompts[i // self.n], echo=bool(body.echo))
            for i in range(len(texts.requests))
        ]
        ended: dict[int, Completion] = {}
        if body.echo and body.logprobs is None:
            for index in range(len(lines)):
                yield self._chunk(index, self.texts[index // self.n])
        try:
            async for piece in texts.pieces():
                if piece.ended is not None:
                    ended[piece.index] = piece.ended
                yield self._grown(piece, lines[piece.index])
        finally:
            texts.cancel()
        if wants_usage(body):
            completions = [ended[index] for index in range(len(lines))]
            yield self.answer.part([], chunk=True, usage=usage(self.prompts, completions))

    def _grown(self, piece: Piece, lines: Logprobs) -> dict[str, Any]:
        if piece.ended is not None:
            return self._chunk(piece.index, piece.text, reason=REASONS[piece.ended.reason])
        token = piece.token
        scored = token.scored if token else None
        logprobs = (
            None
            if token is None or scored is None
            else lines.of([token.id], [scored], self.body.logprobs or 0)
        )
        return self._chunk(piece.index, piece.text, logprobs)

    def _chunk(
        self, index: int, text: str, logprobs: Any = None, *, reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return self.answer.part([choice], chunk=True, workbench=self.answer.workbench())


def subject_text(subject: Any, ids: list[int]) -> str:
    """The text of a prompt given as token ids."""
    import torch

    return subject.text(torch.tensor(ids))
