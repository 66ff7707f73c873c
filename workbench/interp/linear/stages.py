"""Activations of many texts, stage by stage: stage 0 enters the first layer, stage i is what layer
i - 1 leaves.
"""

from collections.abc import Callable, Sequence
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
"""(stage, activation `[batch, pos, ...]`) -> nothing."""


def stages_of(subject: Subject, site: str) -> list[int]:
    """The stages of a site: the stream has one more than there are layers. Raises `WorkbenchError`
    for no site.
    """
    if site not in SITES:
        raise WorkbenchError(f"The site is {site!r}; choose one of {', '.join(SITES)}.")
    return list(range(0 if site == STREAM else 1, subject.card.n_layers + 1))


@any_family
def each_stage(
    subject: Subject, ids: Int[Tensor, "batch pos"], look: Look, *, site: str = STREAM
) -> None:
    """Run a batch once and show every stage of a site to `look`."""

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
    """The activation at positions `at[i]` of sequence i, for all of them one after the other, in
    single precision.

    Sequences of a batch are filled up at their end, which a causal model does not see from before.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    row = {stage: i for i, stage in enumerate(stages)}
    starts = np.concatenate([[0], np.cumsum([len(a) for a in at])])
    found: np.ndarray | None = None
    for first in range(0, len(order), BATCH):
        part = order[first : first + BATCH]
        length = max(len(sequences[i]) for i in part)
        filled = [[*sequences[i], *[sequences[i][-1]] * (length - len(sequences[i]))] for i in part]
        seen: dict[int, Tensor] = {}
        ids = torch.tensor(filled, device=subject.device)
        each_stage(
            subject,
            ids,
            lambda s, x, seen=seen: seen.update({s: x}) if s in row else None,
            site=site,
        )
        for stage, activation in seen.items():
            values = activation.flatten(2).float().cpu().numpy()
            if found is None:
                found = np.zeros((len(row), starts[-1], values.shape[-1]), np.float32)
            for k, i in enumerate(part):
                found[row[stage], starts[i] : starts[i + 1]] = values[k, list(at[i])]
        if progress is not None:
            progress(min(1.0, (first + BATCH) / len(order)), "activations")
    assert found is not None
    return found
