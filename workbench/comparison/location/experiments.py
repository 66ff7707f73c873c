"""Which hybrids are scored to find where a change lives: parts, cumulative series, random subsets,
interpolations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.subjects.parts import Parts

ALPHAS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""How far from base (0) to tuned (1) the interpolated models lie."""

GRAINS = ("layers", "blocks", "heads")
"""How fine the parts are: whole layers; also each attention and MLP; also each head."""

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
BOTTOM = ("embed", "pos_embed")


@dataclass(frozen=True)
class Experiment:
    """One hybrid: `parts` of the other model brought `into` base or tuned.

    - `kind`: one of `KINDS`; `name`: the part's, or what a random subset is as large as
    - `layer`, `index`: where on a map; `n_params`: numbers exchanged; `draw`: of a random subset;
        `alpha`: how far
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
    """All hybrids of a study, the telling ones first.

    A series from the bottom into the base is, read backwards, the series from the top into the
    tuned model; so series go into the base only.
    """
    sides = ("base", "tuned")
    found = [e for into in sides for e in _single(parts, "outer", list(parts.outer), into)]
    found += [e for into in sides for e in _single(parts, "layer", parts.layers, into)]
    found += list(_series(parts))
    if path:
        n = parts.n_params(parts.all)
        found += [
            Experiment("path", f"{a:g}", "base", tuple(parts.all), n, alpha=a) for a in ALPHAS
        ]
    if grain != "layers":
        for into in sides:
            found += _single(parts, "attn", parts.blocks[::2], into) + _single(
                parts, "mlp", parts.blocks[1::2], into
            )
    sizes = {"layer": "L0", "attn": "L0.attn", "mlp": "L0.mlp", "head": "L0H0"}
    wanted = {"layers": ("layer",), "blocks": ("layer", "attn", "mlp"), "heads": tuple(sizes)}[
        grain
    ]
    counts = {name: parts.n_params([sizes[name]]) for name in wanted}
    n_layers = len(parts.layers)
    for share in (0.25, 0.5, 0.75):
        counts[f"{round(share * n_layers)} layers"] = round(share * n_layers) * parts.n_params(
            ["L0"]
        )
    found += list(_random(parts, counts, draws, seed))
    if grain == "heads":
        found += [e for into in sides for e in _single(parts, "head", parts.heads, into)]
    return found


def _single(parts: Parts, kind: str, names: Sequence[str], into: str) -> list[Experiment]:
    found = []
    for name in names:
        layer = index = None
        of = kind
        if kind != "outer":
            head = name.removeprefix("L").partition(
                "H" if "H" in name else "KV" if "KV" in name else "."
            )
            layer = int(head[0])
            if kind == "head":
                index, of = int(head[2]), "kv" if head[1] == "KV" else "head"
        found.append(Experiment(of, name, into, (name,), parts.n_params([name]), layer, index))
    return found


def _series(parts: Parts) -> Iterator[Experiment]:
    bottom = [p for p in parts.outer if p in BOTTOM]
    top = [p for p in parts.outer if p not in BOTTOM]
    for i in range(len(parts.layers) + 1):
        taken = (*bottom, *parts.layers[:i])
        yield Experiment(
            "from_bottom",
            f"L{i - 1}" if i else "embed",
            "base",
            taken,
            parts.n_params(taken),
            i - 1,
        )
        taken = (*parts.layers[len(parts.layers) - i :], *top)
        at = len(parts.layers) - i
        yield Experiment(
            "from_top", f"L{at}" if i else "ln_final", "base", taken, parts.n_params(taken), at
        )


def _random(parts: Parts, counts: dict[str, int], draws: int, seed: int) -> Iterator[Experiment]:
    """Subsets of heads and neuron packets, drawn over all layers, with as many parameters as
    `counts` says.
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
