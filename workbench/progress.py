"""The type of progress callbacks."""

from collections.abc import Callable

Progress = Callable[[float, str], None]
