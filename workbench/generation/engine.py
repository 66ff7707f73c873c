"""The engine: a batch with a thread of its own, for many callers at once."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from workbench.errors import WorkbenchError
from workbench.generation.batch import Batch, check
from workbench.generation.request import Completion, Request, Token
from workbench.generation.row import Row
from workbench.subjects import Subject
from workbench.subjects.bridge import shared_clone


class FullError(WorkbenchError):
    """So many requests wait that another one has to be asked again later."""


class EngineError(RuntimeError):
    """A step of the engine failed, which is a fault of ours; the requests under way are lost."""


@dataclass
class Counts:
    """What an engine has done since it was started."""

    requests: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    busy_s: float = 0.0


class Generation:
    """A request under way: iterate over its tokens, ask for its `result`, or `cancel` it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.row: Row | None = None
        self._events: SimpleQueue[Token | Completion | Exception] = SimpleQueue()
        self.cancelled = False
        self._ended: Completion | Exception | None = None
        self.listener: Callable[[Token | Completion | Exception], None] = self._events.put
        """Called with each token, and at last with the completion or what went wrong."""

    def cancel(self) -> None:
        """Leave the batch before its next step; what was written until then is the result."""
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
        """The completion, when it is there. Raises what went wrong."""
        for _ in self:
            pass
        if isinstance(self._ended, Completion):
            return self._ended
        assert self._ended is not None
        raise self._ended


class Engine:
    """One model's batch, stepped by a thread that sleeps while nothing is asked.

    The engine runs over the subject's weights by a module tree of its own, so that hooks which
    others hang on the subject for a reading do not reach it.

    Args:
        subject: The model, an edited one too.
        most_rows: Texts under way at once.
        most_waiting: Requests that may wait beside them; a further one is refused.
        most_tokens: Tokens of the texts under way together, new ones included.
        prefix_bytes: Memory for beginnings of texts.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        most_rows: int = 16,
        most_waiting: int = 64,
        most_tokens: int = 1 << 16,
        prefix_bytes: int = 1 << 28,
    ) -> None:
        own = Subject(subject.name, shared_clone(subject.model), subject.tokenizer, subject.card)
        self.subject = subject
        self.counts = Counts()
        self.most_waiting = most_waiting
        self._new_batch = lambda: Batch(
            own, most_rows=most_rows, most_tokens=most_tokens, prefix_bytes=prefix_bytes
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
        """Requests that wait or are under way."""
        return len(self._open)

    @property
    def n_waiting(self) -> int:
        """Requests that have not begun."""
        return max(0, self.n_open - self._batch.most_rows)

    def submit(self, request: Request, listener: Callable[[Any], None] | None = None) -> Generation:
        """Ask for a completion.

        Raises `WorkbenchError` for a request that the model cannot carry out, `FullError` when too
        many wait.
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
        """Take no more requests, finish those under way (or, without `wait`, cancel them) and end
        the thread.
        """
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
            self._batch.step()
        except (
            Exception
        ) as error:  # the thread serves others too: every caller is told, and it goes on
            self._start_afresh(error)
        self.counts.busy_s += time.perf_counter() - began

    def _start_afresh(self, error: Exception) -> None:
        """A new batch, after a step that failed half-way."""
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
    """Hand an event to whoever asked; one who is gone is no concern of the others in the batch."""
    try:
        generation.listener(event)
    except Exception:
        logging.getLogger("workbench").exception(
            "The listener of a request failed; the request is cancelled"
        )
        generation.cancel()
