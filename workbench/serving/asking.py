"""From the fields of an HTTP request to the engine, and from its events to the event loop."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from workbench.errors import WorkbenchError
from workbench.generation import Completion, Generation, Request, Sampling, Token
from workbench.generation.engine import FullError
from workbench.serving.fields import Sampled
from workbench.serving.limits import ApiError, Limits
from workbench.serving.models import Served

Event = tuple[int, Token | Completion]


@dataclass(frozen=True)
class Piece:
    """New text of one of a request's texts; the last piece has `ended`, the whole completion."""

    index: int
    text: str
    token: Token | None = None
    ended: Completion | None = None


def sampling_of(body: Sampled) -> Sampling:
    """The sampling of a request; temperature defaults to 1, as in OpenAI's API."""
    given = {
        name: value
        for name in (
            "top_p",
            "top_k",
            "min_p",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
        )
        if (value := getattr(body, name)) is not None
    }
    bias = {_token(key): value for key, value in (body.logit_bias or {}).items()}
    seed = random.SystemRandom().getrandbits(62) if body.seed is None else body.seed
    temperature = 1.0 if body.temperature is None else body.temperature
    return Sampling(temperature=temperature, logit_bias=bias, seed=seed, **given)


def _token(key: str) -> int:
    if not key.isascii() or not key.isdigit() or len(key) > 9:
        raise ApiError(400, f"logit_bias is by token id; {key!r} is none.", param="logit_bias")
    return int(key)


def stops_of(body: Sampled) -> list[str]:
    """The stop strings of a request."""
    given = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if any(not stop for stop in given):
        raise ApiError(400, "A stop string is empty; leave it out.", param="stop")
    return given


def check_stream_options(body: Sampled) -> None:
    """Raise `ApiError` for stream options without a stream."""
    if body.stream_options and not body.stream:
        raise ApiError(
            400, "stream_options belong to a stream; set stream.", param="stream_options"
        )


def wants_usage(body: Sampled) -> bool:
    """Whether a stream should end with its token counts."""
    return bool(body.stream_options and body.stream_options.include_usage)


class Texts:
    """The texts of one HTTP request, generated together; create it in the event loop.

    Args:
        served: The model.
        requests: One per text.
        limits: How many texts one request may ask for.

    Raises:
        ApiError: For too many texts, a full queue, or a prompt that does not fit.
    """

    def __init__(self, served: Served, requests: Sequence[Request], limits: Limits) -> None:
        if len(requests) > limits.texts:
            raise ApiError(
                400,
                f"{len(requests)} texts were asked for; at most {limits.texts} in one request.",
                param="n",
            )
        self.requests = requests
        self._queue: asyncio.Queue[tuple[int, Token | Completion | Exception]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._generations: list[Generation] = []
        try:
            for index, request in enumerate(requests):
                self._generations.append(served.engine.submit(request, self._listener(index)))
        except FullError as error:
            self.cancel()
            raise ApiError(429, str(error), code="queue_full") from error
        except WorkbenchError as error:
            self.cancel()
            raise ApiError(
                400, str(error), param="prompt", code="context_length_exceeded"
            ) from error

    def _listener(self, index: int) -> Callable[[Token | Completion | Exception], None]:
        """What the engine's thread calls with the events of one text."""

        def listen(event: Token | Completion | Exception) -> None:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, event))

        return listen

    def cancel(self) -> None:
        """Stop generating all texts."""
        for generation in self._generations:
            generation.cancel()

    async def events(self) -> AsyncIterator[Event]:
        """(index of the text, token or completion) until all are complete, or an `ApiError`."""
        n_open = len(self.requests)
        try:
            while n_open:
                index, event = await self._queue.get()
                if isinstance(event, Exception):
                    raise ApiError(500, f"The engine failed ({event}); the log has the details.")
                yield index, event
                n_open -= isinstance(event, Completion)
        finally:
            self.cancel()

    async def pieces(self) -> AsyncIterator[Piece]:
        """The texts piece by piece as they grow; raises `ApiError` if the engine fails."""
        shown = [0] * len(self.requests)
        async for index, event in self.events():
            if isinstance(event, Completion):
                yield Piece(index, event.text[shown[index] :], ended=event)
            else:
                shown[index] += len(event.text)
                yield Piece(index, event.text, event)

    async def completions(self) -> list[Completion]:
        """The completions of all texts, in order."""
        completions: dict[int, Completion] = {}
        async for index, event in self.events():
            if isinstance(event, Completion):
                completions[index] = event
        return [completions[index] for index in range(len(self.requests))]
