"""What each head and each MLP does for a text: its output is exchanged, one part at a time.

The text is a row of tokens of which the last ones are scored. What a part gives in it is replaced
at every position, by what the part gives in another run, or by its mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.interp.engine.branches import Branches, Recording
from workbench.interp.engine.packed import PackedEngine, UnpackableError, engine
from workbench.interp.engine.reader import Reader, plain_reader
from workbench.interp.engine.sweep import split
from workbench.subjects import Subject

Map = Float[np.ndarray, "layer part"]
"""A number for each layer and part; the parts are the heads, then the MLP."""
FEWEST = 12
"""The fewest samples of which one half ranks the parts and the other half measures them."""
Head = tuple[int, int]
"""Layer and number of a head, both counted from 0."""


class Outputs(NamedTuple):
    """What the parts give instead, by layer; one position stands for all where there is one.

    - `z`: of the heads `[pos or 1, head, d_head]`
    - `mlp_out`: of the MLP `[pos or 1, d_model]`
    """

    z: list[Tensor]
    mlp_out: list[Tensor]


def outputs_of(run: Recording, prompt: int) -> Outputs:
    """What the parts give in one prompt of a recorded run."""
    return Outputs([z[prompt] for z in run.z], [out[prompt] for out in run.mlp_out])


def mean_outputs(run: Recording) -> Outputs:
    """The means over all prompts and positions but the first, which is unlike all others."""
    return Outputs(
        [z[:, 1:].mean((0, 1))[None] for z in run.z],
        [out[:, 1:].mean((0, 1))[None] for out in run.mlp_out],
    )


def log_prob(logits: Float[Tensor, "n read vocab"], targets: Sequence[int]) -> Float[Tensor, " n"]:
    """The log-probability of tokens in nats, summed over them.

    Args:
        logits: At the positions that predict the tokens, which are the last ones.
        targets: The tokens.
    """
    logs = logits[:, -len(targets) :].float().log_softmax(-1)
    tokens = torch.tensor(list(targets), device=logits.device)
    return logs.gather(-1, tokens.expand(len(logs), -1).unsqueeze(-1)).sum((1, 2))


class Exchange:
    """Exchanges every part of a model in turn; exact, by the packed engine or else by hooks.

    - `how`: "packed", or "hooks" and the reason
    """

    def __init__(self, subject: Subject):
        self.how = "packed"
        self.packed: PackedEngine | None = None
        try:
            self.packed = engine(subject)
            self.reader: Reader = self.packed
        except UnpackableError as error:
            self.how = f"hooks ({error})"
            self.reader = plain_reader(subject)

    @torch.no_grad()
    def __call__(
        self, ids: Int[Tensor, " pos"], instead: Outputs, targets: Sequence[int]
    ) -> tuple[Map, float]:
        """The tokens' log-probability with each part exchanged, and with none exchanged.

        Args:
            ids: What the model reads; its last tokens predict the targets.
            instead: What the parts give instead.
            targets: The tokens that are scored, in order.
        """
        run = self.reader.record(ids[None])
        whole = float(log_prob(run.logits, targets)[0])
        run.logits = torch.empty(0)  # by far the largest part of it
        instead = Outputs(
            [z.expand(len(ids), -1, -1) for z in instead.z],
            [out.expand(len(ids), -1) for out in instead.mlp_out],
        )
        if self.packed is None:
            return _by_hooks(self.reader, ids, run, instead, targets), whole
        return _packed(self.packed, run, instead, targets), whole


def _packed(
    packed: PackedEngine, run: Recording, instead: Outputs, targets: Sequence[int]
) -> Float[np.ndarray, "layer part"]:
    """All parts of all layers by the packed engine."""
    n_parts = run.z[0].shape[2] + 1
    values = np.empty((len(run.z), n_parts))
    branches = [_branches(packed, run, instead, layer) for layer in range(len(run.z))]
    for chunk in split(branches, run, 1.0):
        for branch, finals in packed.carry(run, chunk, last=len(targets)):
            values[branch.key] = log_prob(packed.logits(finals), targets).double().cpu().numpy()
    return values


def _branches(packed: Any, run: Recording, instead: Outputs, layer: int) -> Branches:
    """One run for each head of a layer and one for its MLP, each with the other output."""
    n_heads = run.z[layer].shape[2]

    def make() -> Tensor:
        own = run.z[layer][0]  # [pos, head, d_head]
        everywhere = torch.arange(len(own), device=own.device)
        z = own.repeat(n_heads, 1, 1, 1)
        for head in range(n_heads):
            z[head, :, head] = instead.z[layer][:, head]
        heads = packed.block(run, 0, layer, everywhere, z=z)
        mlp = packed.block(run, 0, layer, everywhere, mlp_out=instead.mlp_out[layer][None])
        return torch.cat([heads, mlp])

    return Branches(layer + 1, 0, n_heads + 1, make, layer)


def _by_hooks(
    plain: Reader, ids: Tensor, run: Recording, instead: Outputs, targets: Sequence[int]
) -> Float[np.ndarray, "layer part"]:
    """The same by one whole run for each part."""
    n_heads = run.z[0].shape[2]
    values = np.empty((len(run.z), n_heads + 1))
    for layer, part in np.ndindex(values.shape):
        site = "z" if part < n_heads else "mlp_out"
        other = getattr(instead, site)[layer][None]

        def exchange(x: Tensor, part: int = part, other: Tensor = other) -> Tensor:
            if x.ndim == other.ndim == 3:
                return other
            x = x.clone()
            x[:, :, part] = other[:, :, part]
            return x

        with plain.changed(site, layer, exchange):
            values[layer, part] = float(log_prob(plain.run(ids[None]), targets)[0])
    return values


def ranking(n: int) -> int:
    """How many of `n` samples rank the parts; the others measure them. None of few, as all do."""
    return n // 2 if n >= FEWEST else 0


def part_names(n_layers: int, n_parts: int) -> list[str]:
    """The parts' names by layer, such as L3H1; the last of each layer is its MLP."""
    return [
        f"L{layer} MLP" if part == n_parts - 1 else f"L{layer}H{part}"
        for layer, part in np.ndindex(n_layers, n_parts)
    ]


def part_table(maps: Mapping[str, Float[np.ndarray, "layer part"]]) -> pd.DataFrame:
    """One row for each part with its number on every map, ranked by the map `ranked_by`."""
    shape = maps["ranked_by"].shape
    layer, _ = np.indices(shape).reshape(2, -1)
    columns = {name: values.ravel() for name, values in maps.items()}
    table = pd.DataFrame({"part": part_names(*shape), "layer": layer, **columns})
    return table.sort_values("ranked_by", ascending=False, ignore_index=True)


def head_sets(
    ranked_by: Float[np.ndarray, "layer head"], sizes: Sequence[int], controls: int, seed: int
) -> list[tuple[list[Head], bool]]:
    """Sets of heads to take out, and whether they are the first by rank or drawn from the others.

    Args:
        ranked_by: What the heads are ranked by, the largest first.
        sizes: How many heads each of the first sets holds; those that the model lacks are left out.
        controls: How many random sets, each of the largest size.
        seed: Of the draws.
    """
    order = [divmod(int(i), ranked_by.shape[1]) for i in np.argsort(-ranked_by, axis=None)]
    sizes = [size for size in sizes if 0 < size <= len(order)]
    chosen = [(order[:size], True) for size in sizes]
    largest = max(sizes, default=0)
    rest = order[largest:]
    rng = np.random.default_rng(seed)
    if 0 < largest <= len(rest):
        for _ in range(controls):
            drawn = rng.choice(len(rest), largest, replace=False)
            chosen.append((sorted(rest[i] for i in drawn), False))
    return chosen
