"""The engine: a batch with its own thread, for many callers at once."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from workbench import threads
from workbench.errors import WorkbenchError
from workbench.generation.batch import Batch, check
from workbench.generation.request import Completion, Request, Token
from workbench.generation.row import Row
from workbench.generation.shortcut import LARGEST
from workbench.subjects import Subject
from workbench.subjects.bridge import shared_clone


class FullError(WorkbenchError):
    """Too many requests wait; the caller should retry later."""


class EngineError(RuntimeError):
    """A step of the engine failed by a bug of ours; the requests in generation are lost."""


@dataclass
class Counts:
    """What an engine has done since its start; `reused_tokens` are cached prompt tokens."""

    requests: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    busy_s: float = 0.0


class Generation:
    """A submitted request: iterate over its tokens, wait for its `result`, or `cancel` it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.row: Row | None = None
        self._events: SimpleQueue[Token | Completion | Exception] = SimpleQueue()
        self.cancelled = False
        self._ended: Completion | Exception | None = None
        self.listener: Callable[[Token | Completion | Exception], None] = self._events.put
        """Called with each token, and finally with the completion or an exception."""

    def cancel(self) -> None:
        """Stop before the next step; what was generated until then is the result."""
        self.cancelled = True
        if self.row is not None:
            self.row.cancelled = True

    def __iter__(self) -> Iterator[Token]:
        while self._ended is None:
            event = self._events.get()
            if isinstance(event, Token):
                yield event
            else:
                self._ended = event

    def result(self) -> Completion:
        """Wait for the completion and return it. Raises the engine's exception if it failed."""
        for _ in self:
            pass
        if isinstance(self._ended, Completion):
            return self._ended
        assert self._ended is not None
        raise self._ended


class Engine:
    """One model's batch, stepped by a thread that sleeps when there is no request.

    The engine shares the subject's weights but has its own modules, so that hooks on the subject do
    not affect generation.

    Args:
        subject: The model, edited or not.
        most_rows: Maximum of texts generated at once.
        most_waiting: Maximum of requests that wait besides; a further one is refused.
        most_tokens: Maximum of tokens in the shared cache, new ones included.
        prefix_bytes: Memory for the cached beginnings of prompts.
        copy_bytes: Size up to which a model's weights may be copied into a faster order.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        most_rows: int = 16,
        most_waiting: int = 64,
        most_tokens: int = 1 << 16,
        prefix_bytes: int = 1 << 28,
        copy_bytes: int = LARGEST,
    ) -> None:
        own = Subject(subject.name, shared_clone(subject.model), subject.tokenizer, subject.card)
        self.subject = subject
        self.counts = Counts()
        self.most_waiting = most_waiting
        self._new_batch = lambda: Batch(
            own,
            most_rows=most_rows,
            most_tokens=most_tokens,
            prefix_bytes=prefix_bytes,
            copy_bytes=copy_bytes,
        )
        self._batch = self._new_batch()
        self._inbox: deque[Generation] = deque()
        self._open: set[Generation] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(
            target=self._run, name=f"engine {subject.name}", daemon=True
        )
        self._thread.start()

    @property
    def n_open(self) -> int:
        """The number of requests that wait or are in generation."""
        return len(self._open)

    @property
    def n_bytes(self) -> int:
        """The memory of what it copied of the weights to be faster."""
        return self._batch.forward.shortcut.n_bytes

    @property
    def n_waiting(self) -> int:
        """The number of requests that have not started."""
        return max(0, self.n_open - self._batch.most_rows)

    def submit(self, request: Request, listener: Callable[[Any], None] | None = None) -> Generation:
        """Queue a request; returns at once.

        Args:
            request: What to generate.
            listener: Called in the engine's thread with each token, and finally with the
                completion or an exception; without it, iterate over the returned object.

        Raises:
            WorkbenchError: For a request that the model cannot serve.
            FullError: When too many requests wait.
        """
        check(self.subject, request)
        generation = Generation(request)
        if listener is not None:
            generation.listener = listener
        with self._changed:
            if self._closing:
                raise FullError(f"The engine of {self.subject.name} is closing; ask again later.")
            if self.n_open >= self._batch.most_rows + self.most_waiting:
                raise FullError(
                    f"{self.n_open} requests are under way with {self.subject.name}; ask again "
                    "later."
                )
            self._open.add(generation)
            self._inbox.append(generation)
            self._changed.notify()
        return generation

    def close(self, *, wait: bool = True) -> None:
        """Refuse new requests, finish the open ones (cancel them if not `wait`), end the thread."""
        with self._changed:
            self._closing = True
            if not wait:
                for generation in list(self._open):
                    generation.cancel()
            self._changed.notify()
        if wait:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._inbox and not self._open and not self._closing:
                    self._changed.wait()
                if self._closing and not self._open:
                    return
                arrived = [self._inbox.popleft() for _ in range(len(self._inbox))]
            self._step(arrived)

    def _begin(self, generation: Generation) -> None:
        def on_token(token: Token) -> None:
            self.counts.tokens += 1
            _tell(generation, token)

        def done(completion: Completion) -> None:
            self.counts.requests += 1
            self.counts.prompt_tokens += len(generation.request.prompt)
            self.counts.reused_tokens += completion.reused
            self._open.discard(generation)
            _tell(generation, completion)

        generation.row = self._batch.add(replace(generation.request, on_token=on_token), done)
        generation.row.cancelled = generation.cancelled

    def _step(self, arrived: list[Generation]) -> None:
        began = time.perf_counter()
        try:
            for generation in arrived:
                self._begin(generation)
            threads.fit()
            self._batch.step()
        except Exception as error:  # the thread serves other callers too: report, and carry on
            self._start_afresh(error)
        self.counts.busy_s += time.perf_counter() - began

    def _start_afresh(self, error: Exception) -> None:
        """Replace the batch after a step that failed half-way; all open requests fail."""
        logging.getLogger("workbench").exception(
            "A step of the engine of %s failed", self.subject.name
        )
        with self._changed:
            lost = self._open
            self._open = set()
            self._inbox.clear()
            self._batch = self._new_batch()
        for generation in lost:
            _tell(generation, EngineError(f"{type(error).__name__}: {error}"))


def _tell(generation: Generation, event: Token | Completion | Exception) -> None:
    """Pass an event to a request's listener; a listener that fails must not stop the others."""
    try:
        generation.listener(event)
    except Exception:
        logging.getLogger("workbench").exception(
            "The listener of a request failed; the request is cancelled"
        )
        generation.cancel()
