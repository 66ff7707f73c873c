"""A generation to look at while it grows, for a page that redraws itself."""

import threading
import time

from workbench.generation.engine import Engine, Generation
from workbench.generation.request import Completion, Request, Scored, Token


class Growing:
    """A request submitted to an engine, and its tokens so far.

    - `first_s`: seconds until the first token, None before it

    Args:
        engine: Generates in its own thread.
        request: What to generate.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        self.request = request
        self.first_s: float | None = None
        self._began = time.perf_counter()
        self._tokens: list[Token] = []
        self._ended: Completion | Exception | None = None
        self._changed = threading.Condition()
        self._generation: Generation = engine.submit(request, self._hear)

    def _hear(self, event: Token | Completion | Exception) -> None:
        with self._changed:
            if isinstance(event, Token):
                self._tokens.append(event)
                self.first_s = self.first_s or time.perf_counter() - self._began
            else:
                self._ended = event
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """Whether generation has ended."""
        return self._ended is not None

    def ids(self) -> list[int]:
        """The generated token ids so far."""
        return [token.id for token in self._tokens]

    def scores(self) -> list[Scored]:
        """The scores of the tokens so far, if the request asked for them."""
        return [token.scored for token in self._tokens if token.scored is not None]

    def text(self) -> str:
        """The text so far."""
        return "".join(token.text for token in self._tokens)

    def wait(self, seconds: float, *, whole: bool = False) -> None:
        """Wait until there is a token (with `whole`: until the end), but at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self.done or (not whole and bool(self._tokens)), seconds)

    def cancel(self) -> None:
        """Stop; what was generated until then is the completion."""
        self._generation.cancel()

    def completion(self) -> Completion:
        """The completion, once `done`. Raises the engine's exception if it failed."""
        assert self._ended is not None, "a generation under way has no completion"
        if isinstance(self._ended, Exception):
            raise self._ended
        return self._ended
