"""Activations of many texts by stage: 0 enters the first layer, i leaves layer i - 1."""

from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.progress import Progress
from workbench.subjects import Subject

STREAM = "resid_post"
SITES = {
    STREAM: "the residual stream: the embedding, then what each layer leaves",
    "attn_out": "what each layer's attention adds to the stream",
    "mlp_out": "what each layer's MLP adds to the stream",
    "z": "the outputs of a layer's heads, side by side",
}
HOOKS = {"attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out", "z": "attn.hook_z"}
BATCH = 16
"""Texts run at once."""

Look = Callable[[int, Tensor], None]
"""Called with a stage and its activation `[batch, pos, ...]`."""


def stages_of(subject: Subject, site: str) -> list[int]:
    """The stages of a site; the stream has one more than there are layers.

    Raises:
        WorkbenchError: There is no such site.
    """
    if site not in SITES:
        raise WorkbenchError(f"The site is {site!r}; choose one of {', '.join(SITES)}.")
    return list(range(0 if site == STREAM else 1, subject.card.n_layers + 1))


@any_family
def each_stage(
    subject: Subject, ids: Int[Tensor, "batch pos"], look: Look, *, site: str = STREAM
) -> None:
    """Run a batch once and pass every stage of a site to a function.

    Args:
        subject: The model.
        ids: Token ids.
        look: Called with each stage and its activation.
        site: One of `SITES`.
    """

    def hook(activation: Tensor, hook: Any, stage: int) -> None:
        look(stage, activation.detach())

    def name(stage: int) -> str:
        if site != STREAM:
            return f"blocks.{stage - 1}.{HOOKS[site]}"
        return f"blocks.{stage - 1}.hook_out" if stage else "blocks.0.hook_in"

    hooks = [(name(stage), partial(hook, stage=stage)) for stage in stages_of(subject, site)]
    with torch.no_grad():
        subject.bridge.run_with_hooks(ids, fwd_hooks=hooks)


def read_stages(
    subject: Subject,
    sequences: Sequence[Sequence[int]],
    at: Sequence[Sequence[int]],
    *,
    site: str = STREAM,
    stages: Sequence[int],
    progress: Progress | None = None,
) -> Float[np.ndarray, "stage reading width"]:
    """Activations at chosen positions of many sequences, one after the other, in single precision.

    Args:
        subject: The model.
        sequences: Token ids of each sequence.
        at: Positions to read in each sequence.
        site: One of `SITES`.
        stages: Stages to read.
        progress: Called with the share done and a word about it.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    row = {stage: i for i, stage in enumerate(stages)}
    starts = np.concatenate([[0], np.cumsum([len(positions) for positions in at])])
    readings: np.ndarray | None = None
    for first in range(0, len(order), BATCH):
        part = order[first : first + BATCH]
        ids = torch.tensor(_padded([sequences[i] for i in part]), device=subject.device)
        for stage, activation in _wanted_stages(subject, ids, site, row).items():
            values = activation.flatten(2).float().cpu().numpy()
            if readings is None:
                readings = np.zeros((len(row), starts[-1], values.shape[-1]), np.float32)
            for k, i in enumerate(part):
                readings[row[stage], starts[i] : starts[i + 1]] = values[k, list(at[i])]
        if progress is not None:
            progress(min(1.0, (first + BATCH) / len(order)), "activations")
    assert readings is not None
    return readings


def _padded(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """Sequences filled up at their end, which a causal model does not see from before."""
    length = max(map(len, sequences))
    return [[*ids, *[ids[-1]] * (length - len(ids))] for ids in sequences]


def _wanted_stages(
    subject: Subject, ids: Tensor, site: str, stages: Container[int]
) -> dict[int, Tensor]:
    """The activations of a batch at these stages only."""
    activations: dict[int, Tensor] = {}

    def keep(stage: int, activation: Tensor) -> None:
        if stage in stages:
            activations[stage] = activation

    each_stage(subject, ids, keep, site=site)
    return activations
