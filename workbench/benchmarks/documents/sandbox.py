"""Task templates are rendered in jinja2's sandbox: they may fill in a document, nothing else."""

from typing import Any

from jinja2 import BaseLoader, StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 10_000_000
"""Characters or entries that one multiplication in a template may produce."""
GREATEST_POWER = 64
"""Largest base and exponent that a template may use."""


class Sandbox(ImmutableSandboxedEnvironment):
    """A jinja2 sandbox that also refuses products large enough to fill the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """The product or power of two values, if it is small.

        Args:
            context: Jinja's rendering context.
            operator: "*" or "**".
            left: Left operand.
            right: Right operand.

        Raises:
            SecurityError: the result would be too large.
        """
        if operator == "**" and not (_small(left) and _small(right)):
            raise SecurityError(f"a template may not compute {left!r} ** {right!r}")
        if operator == "*" and _size(left, right) > LONGEST:
            raise SecurityError("a template may not make a text or a list that long")
        return super().call_binop(context, operator, left, right)


def _small(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= GREATEST_POWER


def _size(left: Any, right: Any) -> int:
    """Length of a repeated text or list; 0 for two numbers."""
    for many, times in ((left, right), (right, left)):
        if hasattr(many, "__len__") and isinstance(times, int):
            return len(many) * max(times, 0)
    return 0


def install() -> None:
    """Make lm-eval render all its templates in the sandbox; calling it again does nothing."""
    from lm_eval import utils

    if isinstance(utils.env, Sandbox):
        return
    sandbox = Sandbox(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    sandbox.filters["regex_replace"] = utils.regex_replace
    utils.env = sandbox
