"""The words and the tolerance of checks, and the error where they must hold."""

from workbench.errors import WorkbenchError

TOLERANCE = 1e-3
"""Greatest difference, in the metric's unit (logits), that float32 rounding explains."""

WORDS = {
    "plain_model": "both runs against the plain model",
    "hooked_cells": "random cells against hooks, one whole run each",
    "identity_patch": "patching a run with itself changes nothing",
    "full_patch": "patching everything gives the other run",
    "lens": "the last residual stream gives the model's logits",
    "direct_sum": "direct contributions add up to the logit difference",
    "neuron_sum": "neurons and biases add up to their MLP",
    "completeness": "the tokens' shares add up to the difference of the outputs",
    "null_pair": "a prompt against itself: no patch changes anything",
    "not_fired": "cells that no patch reached",
}
"""Each check in words; every value is a difference and should be next to 0."""


def failed(checks: dict[str, float]) -> list[str]:
    """The checks that failed, in words; NaN counts as failed."""
    return [WORDS.get(name, name) for name, value in checks.items() if not value <= TOLERANCE]


def failure(checks: dict[str, float]) -> str:
    """One sentence that names the failed checks, with their differences; "" if there is none."""
    off = {name: value for name, value in checks.items() if not value <= TOLERANCE}
    if not off:
        return ""
    each = "; ".join(f"{WORDS.get(name, name)}: off by {value:.3g}" for name, value in off.items())
    return f"Do not believe these numbers, a check failed ({each})."


def must_hold(checks: dict[str, float], strict: bool) -> None:
    """Raise `WorkbenchError` if `strict` and a check failed."""
    if strict and (words := failure(checks)):
        raise WorkbenchError(words)
