"""Checks of the small GPT's configuration: sizes, numbers and switches."""

from collections.abc import Callable
from typing import Any

from workbench.errors import WorkbenchError


def _is_whole(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**40


def _is_positive(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    )


_SIZE = ("a whole number above 0", _is_whole)
_MAYBE_SIZE = (
    "a whole number above 0, or nothing",
    lambda value: value is None or _is_whole(value, 0),
)
_POSITIVE = ("a number above 0", _is_positive)
_SWITCH = ("true or false", lambda value: isinstance(value, bool))
TYPES: dict[str, tuple[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("d_vocab", "n_ctx", "n_layers", "n_heads", "d_model"), _SIZE),
    **dict.fromkeys(("n_kv_heads", "d_head", "d_mlp"), _MAYBE_SIZE),
    **dict.fromkeys(("rotary_base", "norm_eps"), _POSITIVE),
    "initializer_range": ("a number from 0 on", lambda value: value == 0 or _is_positive(value)),
    **dict.fromkeys(
        ("qk_norm", "bias", "unembed_bias", "tie_word_embeddings", "zero_init", "use_cache"),
        _SWITCH,
    ),
}
"""What each field of the configuration may hold, in words and as a test."""


def check_types(config: Any) -> None:
    """Raise `WorkbenchError` for a field of a configuration that has a value of the wrong kind."""
    for word, (what, allows) in TYPES.items():
        value = getattr(config, word)
        if not allows(value):
            raise WorkbenchError(f"{word} is {value!r}; it must be {what}.")
