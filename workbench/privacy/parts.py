"""What each head and each MLP does for a canary: its activations are exchanged, one part at a time.

The prompt that is patched is the canary's own. What a part gives there is replaced, at every
position, by what the same part gives in a neighbour: a prompt of as many tokens that does not lead
to the value (noising).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.interp.engine.branches import Branches, Recording
from workbench.interp.engine.packed import UnpackableError, engine
from workbench.interp.engine.reader import plain_reader
from workbench.interp.engine.sweep import split
from workbench.privacy.spelt import log_prob
from workbench.progress import Progress
from workbench.subjects import Subject

Maps = Float[np.ndarray, "neighbour layer part"]
"""A number for each neighbour, layer and part; the parts are the heads, then the MLP."""


def exchanged(
    subject: Subject,
    own: Int[Tensor, " pos"],
    neighbours: Int[Tensor, "neighbour pos"],
    value: tuple[int, ...],
    progress: Progress | None = None,
) -> tuple[Maps, str]:
    """The value's log-probability after the canary's text with one part exchanged, and the engine.

    Exact, by the packed engine or, if it cannot run the model, by hooks.

    Args:
        subject: The model.
        own: The canary's tokens up to the last but one of its value.
        neighbours: As many tokens of other texts.
        value: The tokens of the value.
        progress: Called with the share that is done, from 0 to 1, and a few words.
    """
    try:
        engine(subject)
        run = _packed
        how = "packed"
    except UnpackableError as error:
        run = _hooked
        how = f"hooks ({error})"
    maps = []
    for done, neighbour in enumerate(neighbours, start=1):
        maps.append(run(subject, own, neighbour, value))
        if progress is not None:
            progress(done / len(neighbours), f"neighbour {done} of {len(neighbours)}")
    return np.stack(maps), how


@torch.no_grad()
def _packed(
    subject: Subject, own: Tensor, neighbour: Tensor, value: tuple[int, ...]
) -> Float[np.ndarray, "layer part"]:
    """All parts of all layers by the packed engine."""
    packed = engine(subject)
    run = packed.record(torch.stack([own, neighbour]))  # prompt 0 is patched from prompt 1
    n_layers = subject.card.n_layers
    n_parts = run.z[0].shape[2] + 1
    values = np.empty((n_layers, n_parts))
    branches = [_branches(packed, run, layer, n_parts) for layer in range(n_layers)]
    for chunk in split(branches, run, 1.0):
        for branch, finals in packed.carry(run, 0, chunk, last=len(value)):
            values[branch.key] = log_prob(packed.logits(finals), value).double().cpu().numpy()
    return values


def _branches(packed: Any, run: Recording, layer: int, n_parts: int) -> Branches:
    """One run for each head of a layer and one for its MLP, each with the neighbour's output."""

    def make() -> Tensor:
        own, other = run.z[layer]  # [pos, head, d_head] each
        everywhere = torch.arange(len(own), device=own.device)
        z = own.repeat(n_parts - 1, 1, 1, 1)
        for head in range(n_parts - 1):
            z[head, :, head] = other[:, head]
        heads = packed.block(run, 0, layer, everywhere, z=z)
        mlp = packed.block(run, 0, layer, everywhere, mlp_out=run.mlp_out[layer][1:])
        return torch.cat([heads, mlp])

    return Branches(layer + 1, 0, n_parts, make, layer)


@torch.no_grad()
def _hooked(
    subject: Subject, own: Tensor, neighbour: Tensor, value: tuple[int, ...]
) -> Float[np.ndarray, "layer part"]:
    """The same by one whole run for each part."""
    plain = plain_reader(subject)
    run = plain.record(torch.stack([own, neighbour]))
    n_heads = run.z[0].shape[2]
    values = np.empty((subject.card.n_layers, n_heads + 1))
    for layer, part in np.ndindex(values.shape):
        site = "z" if part < n_heads else "mlp_out"
        other = getattr(run, site)[layer][1:]

        def exchange(x: Tensor, part: int = part, other: Tensor = other) -> Tensor:
            if x.ndim == other.ndim == 3:
                return other
            x = x.clone()
            x[:, :, part] = other[:, :, part]
            return x

        with plain.changed(site, layer, exchange):
            values[layer, part] = float(log_prob(plain.run(own[None]), value)[0])
    return values
