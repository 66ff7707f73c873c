"""From a request's fields to the engine, and its events to the event loop."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from workbench.errors import WorkbenchError
from workbench.generation import Completion, Generation, Request, Sampling, Token
from workbench.generation.engine import FullError
from workbench.serving.fields import Sampled
from workbench.serving.limits import ApiError, Limits
from workbench.serving.models import Served

Event = tuple[int, Token | Completion]


class Piece(NamedTuple):
    """What one text of a request has more than before; `ended` comes with what was held back until
    its end.
    """

    index: int
    text: str
    token: Token | None = None
    ended: Completion | None = None


def sampling_of(said: Sampled) -> Sampling:
    """The sampling that a request asks for; without a temperature it is 1, as in OpenAI's API."""
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
        if (value := getattr(said, name)) is not None
    }
    bias = {_token(key): value for key, value in (said.logit_bias or {}).items()}
    seed = random.SystemRandom().getrandbits(62) if said.seed is None else said.seed
    temperature = 1.0 if said.temperature is None else said.temperature
    return Sampling(temperature=temperature, logit_bias=bias, seed=seed, **given)


def _token(key: str) -> int:
    if not key.isascii() or not key.isdigit() or len(key) > 9:
        raise ApiError(400, f"logit_bias is by token id; {key!r} is none.", param="logit_bias")
    return int(key)


def stops_of(said: Sampled) -> list[str]:
    """The stop strings of a request."""
    given = [said.stop] if isinstance(said.stop, str) else said.stop or []
    if any(not stop for stop in given):
        raise ApiError(400, "A stop string is empty; leave it out.", param="stop")
    return given


def check_stream_options(said: Sampled) -> None:
    """Raise `ApiError` where settings of a stream come with what is none."""
    if said.stream_options and not said.stream:
        raise ApiError(
            400, "stream_options belong to a stream; set stream.", param="stream_options"
        )


def wants_usage(said: Sampled) -> bool:
    """Whether a stream ends with the count of its tokens."""
    return bool(said.stream_options and said.stream_options.include_usage)


class Asked:
    """Texts that one request asks for, under way together.

    - `requests`: one a text; the answers come as (index, token or completion)
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

    def _listener(self, index: int):
        def listen(event: Token | Completion | Exception) -> None:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, event))

        return listen

    def cancel(self) -> None:
        """Leave the batch."""
        for generation in self._generations:
            generation.cancel()

    async def events(self) -> AsyncIterator[Event]:
        """What comes, until every text is complete. Raises `ApiError` where the engine failed."""
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
        """The texts as they grow. Raises `ApiError` where the engine failed."""
        shown = [0] * len(self.requests)
        async for index, event in self.events():
            if isinstance(event, Completion):
                yield Piece(index, event.text[shown[index] :], ended=event)
            else:
                shown[index] += len(event.text)
                yield Piece(index, event.text, event)

    async def completions(self) -> list[Completion]:
        """All texts, in order."""
        found: dict[int, Completion] = {}
        async for index, event in self.events():
            if isinstance(event, Completion):
                found[index] = event
        return [found[index] for index in range(len(self.requests))]
