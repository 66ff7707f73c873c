"""A canary in tokens: those that lead to its value, those of the value, and its likelihood."""

from typing import NamedTuple

from workbench.errors import WorkbenchError
from workbench.privacy.exposure import Canary, check_canary
from workbench.subjects import Subject


class Spelt(NamedTuple):
    """The token ids of a canary up to the end of its value.

    - `before`: what leads to the value, at least one token
    - `value`: the tokens that hold the value; the first may begin with a space before it
    """

    before: tuple[int, ...]
    value: tuple[int, ...]

    @property
    def read(self) -> tuple[int, ...]:
        """What a model reads to predict each token of the value: all but the last one."""
        return self.before + self.value[:-1]


def spelt(subject: Subject, canary: Canary) -> Spelt:
    """The tokens of a canary, parted where its value begins.

    Args:
        subject: The model.
        canary: The canary.

    Raises:
        WorkbenchError: For a canary that `check_canary` rejects, that begins with its value, or
            whose value has no token of its own.
    """
    check_canary(canary)
    text = canary.text.partition("{}")[0]
    without = subject.ids(text) if text else []
    whole = subject.ids(text + canary.value)
    # A space before the value is often one token with it, so the value begins where the two part.
    n = 0
    while n < min(len(without), len(whole)) and without[n] == whole[n]:
        n += 1
    if not n or n == len(whole):
        fault = "begins with its value" if not n else "has no token for its value"
        raise WorkbenchError(
            f"The canary {canary.text!r} {fault} in the tokens of {subject.name}; put words before "
            "{} and choose a value that the model can read."
        )
    return Spelt(tuple(whole[:n]), tuple(whole[n:]))
