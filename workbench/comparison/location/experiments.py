"""The hybrids of a study: single parts, growing stacks, random subsets, interpolations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.subjects.parts import Parts

ALPHAS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Interpolated models: base + alpha (tuned - base)."""

GRAINS = ("layers", "blocks", "heads")
"""Size of the parts: whole layers; also each attention and MLP; also each head."""

KINDS = {
    "outer": "outside the layers",
    "layer": "layer",
    "attn": "attention",
    "mlp": "MLP",
    "head": "head",
    "kv": "shared keys and values",
    "from_bottom": "everything up to here",
    "from_top": "everything from here up",
    "random": "random heads and neurons",
    "path": "all weights, by alpha",
}
"""Each kind of experiment in words."""
BOTTOM = ("embed", "pos_embed")
"""Parts before the first layer."""


@dataclass(frozen=True)
class Experiment:
    """One hybrid: parts of the other model put into base or tuned.

    Attributes:
        kind: A key of `KINDS`.
        name: Of the part, or of the kind of part that a random subset is as large as.
        into: The model that is changed, "base" or "tuned".
        parts: Names of the other model's parts that are put in.
        n_params: Parameters exchanged.
        layer: Row of a map.
        index: Column of a map.
        draw: Number of the random draw.
        alpha: How far the parts are moved towards the other model's, 1 for all the way.
    """

    kind: str
    name: str
    into: str
    parts: tuple[str, ...]
    n_params: int
    layer: int | None = None
    index: int | None = None
    draw: int = 0
    alpha: float = 1.0


def plan(parts: Parts, *, grain: str, draws: int, seed: int, path: bool = True) -> list[Experiment]:
    """All hybrids of a study, the most informative ones first.

    A series from the bottom put into the base is, in reverse, the series from the top put into the
    tuned model; so series go into the base only.

    Args:
        parts: Of the models.
        grain: One of `GRAINS`.
        draws: Random subsets of each size.
        seed: Of the random subsets.
        path: Whether to add interpolated models.
    """
    sides = ("base", "tuned")
    experiments = [e for into in sides for e in _single(parts, "outer", list(parts.outer), into)]
    experiments += [e for into in sides for e in _single(parts, "layer", parts.layers, into)]
    experiments += list(_series(parts))
    if path:
        n = parts.n_params(parts.all)
        experiments += [
            Experiment("path", f"{a:g}", "base", tuple(parts.all), n, alpha=a) for a in ALPHAS
        ]
    if grain != "layers":
        for into in sides:
            experiments += _single(parts, "attn", parts.blocks[::2], into)
            experiments += _single(parts, "mlp", parts.blocks[1::2], into)
    experiments += list(_random(parts, _sizes(parts, grain), draws, seed))
    if grain == "heads":
        experiments += [e for into in sides for e in _single(parts, "head", parts.heads, into)]
    return experiments


def _sizes(parts: Parts, grain: str) -> dict[str, int]:
    """Numbers of parameters that random subsets are to have, by name."""
    examples = {"layer": "L0", "attn": "L0.attn", "mlp": "L0.mlp", "head": "L0H0"}
    kinds = {"layers": ("layer",), "blocks": ("layer", "attn", "mlp"), "heads": tuple(examples)}
    sizes = {kind: parts.n_params([examples[kind]]) for kind in kinds[grain]}
    for share in (0.25, 0.5, 0.75):
        count = round(share * len(parts.layers))
        sizes[f"{count} layers"] = count * parts.n_params(["L0"])
    return sizes


def _single(parts: Parts, kind: str, names: Sequence[str], into: str) -> list[Experiment]:
    """One experiment for each part."""
    experiments = []
    for name in names:
        layer = None
        index = None
        of = kind
        if kind != "outer":
            mark = "H" if "H" in name else "KV" if "KV" in name else "."
            number, mark, rest = name.removeprefix("L").partition(mark)
            layer = int(number)
            if kind == "head":
                index = int(rest)
                of = "kv" if mark == "KV" else "head"
        n_params = parts.n_params([name])
        experiments.append(Experiment(of, name, into, (name,), n_params, layer, index))
    return experiments


def _series(parts: Parts) -> Iterator[Experiment]:
    """More and more layers, from the bottom and from the top."""
    bottom = [p for p in parts.outer if p in BOTTOM]
    top = [p for p in parts.outer if p not in BOTTOM]
    n_layers = len(parts.layers)
    for i in range(n_layers + 1):
        lower = (*bottom, *parts.layers[:i])
        name = f"L{i - 1}" if i else "embed"
        yield Experiment("from_bottom", name, "base", lower, parts.n_params(lower), i - 1)
        first = n_layers - i
        upper = (*parts.layers[first:], *top)
        name = f"L{first}" if i else "ln_final"
        yield Experiment("from_top", name, "base", upper, parts.n_params(upper), first)


def _random(parts: Parts, counts: dict[str, int], draws: int, seed: int) -> Iterator[Experiment]:
    """Random subsets of heads and groups of neurons from all layers.

    Args:
        parts: Of the models.
        counts: By name: how many parameters a subset is to have.
        draws: Subsets of each size.
        seed: Of the draws.
    """
    units = parts.units
    sizes = np.array([parts.n_params([unit]) for unit in units])
    rng = np.random.default_rng(seed)
    for draw in range(draws):
        order = rng.permutation(len(units))
        reached = sizes[order].cumsum()
        for name, count in counts.items():
            cut = int(np.abs(reached - count).argmin()) + 1
            taken = tuple(units[i] for i in order[:cut])
            for into in ("base",) if name.endswith("layers") else ("base", "tuned"):
                yield Experiment("random", name, into, taken, int(reached[cut - 1]), draw=draw)
