"""Each layer's attention pattern passed on as a model runs; none is kept."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import threads
from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.interp.patterns.looking import UnreadableError, look_through
from workbench.subjects import Subject


@any_family
def each_pattern(
    subject: Subject,
    ids: Int[Tensor, "batch pos"],
    look: Callable[[int, Float[Tensor, "batch head query key"]], None],
    measure: Callable[[int, Float[Tensor, "batch kv_head key d_head"]], None] | None = None,
) -> None:
    """Run the model once and pass each layer's pattern to a function; none is kept.

    Args:
        subject: The model.
        ids: Token ids.
        look: Called with each layer's number and pattern. A layer may come twice; the last time
            counts.
        measure: Called with each layer's number and values, if the model shows them.

    Raises:
        WorkbenchError: The model does not show its patterns.
    """

    def see(layer: int, pattern: Tensor, values: Tensor) -> None:
        threads.fit()
        look(layer, pattern.float())
        if measure is not None:
            measure(layer, values)

    try:
        look_through(subject, ids, see)
    except UnreadableError:
        _hooked_patterns(subject, ids, look, measure)


def _hooked_patterns(
    subject: Subject, ids: Tensor, look: Callable, measure: Callable | None
) -> None:
    """The same through TransformerLens's hooks, for architectures with attention of their own."""
    names = pattern_hooks(subject)
    shown: set[int] = set()

    def show(pattern: Tensor, hook: Any, layer: int) -> None:
        shown.add(layer)
        look(layer, pattern.detach().float())

    def value(values: Tensor, hook: Any, layer: int) -> None:
        if measure is not None and values.ndim == 4:
            measure(layer, values.detach().transpose(1, 2))

    hooks = [(name, partial(show, layer=i)) for i, name in enumerate(names)]
    hooks += [(f"blocks.{i}.attn.v.hook_out", partial(value, layer=i)) for i in range(len(names))]
    with torch.no_grad():
        subject.bridge.run_with_hooks(ids, fwd_hooks=hooks)
    _check_shown(len(shown), subject)


def pattern_hooks(subject: Subject) -> list[str]:
    """TransformerLens's name of every layer's pattern.

    Raises:
        WorkbenchError: Some layers have none.
    """
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(subject.card.n_layers)]
    _check_shown(sum(name in subject.bridge.hook_dict for name in names), subject)
    return names


def _check_shown(n: int, subject: Subject) -> None:
    if n != subject.card.n_layers:
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) shows attention patterns in {n} of "
            f"{subject.card.n_layers} layers: some have no attention, or one of a kind that cannot "
            "be read here. Choose a GPT-like model."
        )
