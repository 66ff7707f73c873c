"""The type of progress callbacks, and the progress of a part."""

from collections.abc import Callable

Progress = Callable[[float, str], None]


def within(progress: Progress | None, begins: float, share: float) -> Progress | None:
    """The progress of one part of a work; None stays None.

    Args:
        progress: Of the whole.
        begins: The share of the whole that is done before this part.
        share: How large this part is of the whole.
    """
    if progress is None:
        return None
    whole = progress  # known not to be None from here on
    return lambda done, words: whole(begins + share * done, words)
