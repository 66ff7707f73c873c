"""Whether the hub of data sets may be asked: what only counts fetches nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CLOSED: ContextVar[bool] = ContextVar("hub_closed", default=False)


class ClosedError(OSError):
    """The hub is not to be asked now."""


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Data that are not among this machine's files count as missing while the context lasts."""
    token = _CLOSED.set(True)
    try:
        yield
    finally:
        _CLOSED.reset(token)


def ask(name: str) -> None:
    """Called before a data set is asked of the hub.

    Raises:
        ClosedError: Nothing is to be fetched now.
    """
    if _CLOSED.get():
        raise ClosedError(f"{name} is not among the files of this machine.")
