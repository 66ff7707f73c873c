"""Model families: which are tested, and a clear error for others that are built differently."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from workbench.errors import WorkbenchError
from workbench.subjects import Subject

TESTED = {
    "workbench-gpt": "our GPT",
    "gpt2": "GPT-2",
    "gpt_neox": "GPT-NeoX/Pythia",
    "llama": "Llama (SmolLM2)",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma2": "Gemma 2",
    "gemma3": "Gemma 3",
    "gemma3_text": "Gemma 3",
    "t5": "T5",
}
"""`model_type` of the families that the tests cover, with the name that people use."""
UNLIKE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)
"""Errors raised if a model's parts are not where they were expected, or of another shape."""

F = TypeVar("F", bound=Callable[..., Any])


def any_family(function: F) -> F:
    """A decorator: errors for a family outside `TESTED` become a `WorkbenchError` that says so.

    For a tested family the error passes as it is: that is a bug of ours.
    """

    @wraps(function)
    def guarded(subject: Subject, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(subject, *args, **kwargs)
        except UNLIKE as error:
            if subject.model.config.model_type in TESTED:
                raise
            why = (str(error).strip() or "no reason given").splitlines()[0][:160]
            raise WorkbenchError(
                f"{subject.name} ({subject.card.architecture}) is built in a way that is not known "
                f"here ({type(error).__name__}: {why}). Tested families: "
                f"{', '.join(dict.fromkeys(TESTED.values()))}."
            ) from error

    return guarded  # pyright: ignore[reportReturnType]
