"""The same maps by hooks, one whole run per cell: slow, for any architecture, to check the engine.

Streams, what is written into them, heads' outputs and neurons are changed by plain hooks on the
model; queries, keys, values and patterns by TransformerLens's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.metrics import metric_of
from workbench.interp.engine.reader import Reader, plain_reader
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sweep import Swept, together
from workbench.interp.prompts.pairs import Pair
from workbench.progress import Progress
from workbench.subjects import Subject

PLAIN = {
    "resid_pre": "resid",
    "resid_mid": "mid",
    "resid_post": "resid",
    "attn_out": "attn_out",
    "mlp_out": "mlp_out",
    "z": "z",
    "z_by_pos": "z",
    "neurons": "post",
}
"""Sites that plain hooks reach, and the field of a recording that holds them."""
BRIDGED = {
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
}
"""Sites that only TransformerLens's hooks reach."""
AGREE = 1e-3
"""How far, as a share of the largest logit, TransformerLens's run may be from the model's."""
Cell = tuple[int, ...]


@dataclass(frozen=True)
class _Runs:
    """The two runs of a question, and how one cell of a map is patched.

    - `logits`: of the clean and the corrupted run
    - `activations`: (side, layer) -> the activation at the site, without the batch axis
    - `patched`: (side, layer, change) -> the logits of that side's run with the activation changed
    """

    logits: tuple[Tensor, Tensor]
    activations: Callable[[int, int], Tensor]
    patched: Callable[[int, int, Callable[[Tensor], Tensor]], Tensor]


def hooked(
    subject: Subject,
    question: Pair,
    settings: Settings,
    *,
    cells: list[Cell] | None = None,
    progress: Progress | None = None,
) -> Swept:
    """A map by hooks, one whole run per cell.

    Args:
        subject: The model.
        question: The prompts and their answers.
        settings: What is swept.
        cells: Indices of the cells to compute, the others stay NaN; None for all.
        progress: Called with the share done and a word about it.

    Raises:
        WorkbenchError: There is no hook for the site, or only the packed engine can do the
            settings.
    """
    if question.parts:

        def one_answer(part: Pair, how: Settings) -> Swept:
            return hooked(subject, part, how, cells=cells)

        return together(question, settings, one_answer)
    if settings.replacement not in ("other", "zero") or settings.several:
        raise WorkbenchError(
            "Hooks patch single layers from the other run, or zero them; choose the replacement "
            "'other' or 'zero' without a window, or a model that the packed engine can run."
        )
    site = settings.site
    axes = SITES[site]
    # Side 0 is the clean run, side 1 the corrupted one; an ablation changes the clean run.
    target = 1 if settings.direction == "denoising" and not settings.ablates else 0
    source = 1 - target
    runs = (
        _bridged_runs(subject, question, site)
        if site in BRIDGED
        else _plain_runs(subject, question, settings)
    )
    metric = metric_of(settings.metric, question, runs.logits[0][0, -1])
    clean, corrupted = (float(metric(logits)[0]) for logits in runs.logits)
    layers = settings.layers(subject)
    sizes = _sizes(runs.activations(target, layers[0]), site, len(layers))
    sizes["pos"] = len(question.places) or sizes["pos"] - question.fed
    values = torch.full([sizes[axis] for axis in axes], float("nan"), dtype=subject.model.dtype)
    todo = list(product(*map(range, values.shape))) if cells is None else cells
    for done, cell in enumerate(todo):
        here = dict(zip(axes, cell, strict=True))
        there = dict(here)
        if question.places:  # a named position stands elsewhere in the other prompt
            _, *at = question.places[cell[-1]]  # in the clean prompt, in the corrupted one
            here["pos"] = at[target]
            there["pos"] = at[source]
        layer = layers[cell[0]]
        given = runs.activations(source, layer)[_where(site, there)]
        given = torch.zeros_like(given) if settings.ablates else given
        out = runs.patched(target, layer, _putting(given, _where(site, here)))
        values[cell] = metric(out)[0].to(values.dtype).cpu()
        if progress is not None and done % 8 == 0:
            progress((done + 1) / len(todo), f"{site}: {done + 1} of {len(todo)} hooked runs")
    return Swept(values, clean, corrupted, question.first_difference, metric)


def _plain_runs(subject: Subject, question: Pair, settings: Settings) -> _Runs:
    """Both runs by hooks on the model's own modules."""
    plain = plain_reader(subject)
    site = settings.site
    if not site.startswith("resid_p"):
        assert plain.blocks  # raises where they are not known
    if site == "resid_mid" and plain.parallel:
        raise WorkbenchError(
            "This model computes attention and MLP side by side, so it has no resid_mid."
        )
    if site == "neurons":
        for layer in settings.layers(subject):
            plain.need_neurons(layer)
    recorded = _recorded(plain, question)
    field = PLAIN[site]
    after = int(site == "resid_post")
    hook = {"z_by_pos": "z", "neurons": "post"}.get(site, site)

    def activations(side: int, layer: int) -> Tensor:
        run, row = recorded[side]
        return getattr(run, field)[layer + after][row]

    def patched(side: int, layer: int, change: Callable[[Tensor], Tensor]) -> Tensor:
        ids = question.prompts[side][None]
        if site == "resid_mid":
            # The stream also goes past the MLP, so attention's output is changed to make it so.
            run, row = recorded[side]
            before = run.resid[layer][row : row + 1]
            with plain.changed("attn_out", layer, lambda added: change(before + added) - before):
                return plain.run(ids)
        with plain.changed(hook, layer, change):
            return plain.run(ids)

    clean, corrupted = (run.logits[row : row + 1] for run, row in recorded)
    return _Runs((clean, corrupted), activations, patched)


def _recorded(plain: Reader, question: Pair) -> list[tuple[Recording, int]]:
    """Each prompt's recording and its row in it; prompts of equal length share a run."""
    if question.same_length:
        run = plain.record(torch.stack(list(question.prompts)))
        return [(run, 0), (run, 1)]
    return [(plain.record(ids[None]), 0) for ids in question.prompts]


@torch.no_grad()
def _bridged_runs(subject: Subject, question: Pair, site: str) -> _Runs:
    """Both runs by TransformerLens's hooks."""
    bridge = subject.bridge
    card = subject.card
    name = _attending(bridge, site)

    def run(ids: Int[Tensor, " pos"]) -> tuple[Tensor, Any]:
        return bridge.run_with_cache(ids[None], names_filter=lambda n: n.endswith(name))

    both = [run(ids) for ids in question.prompts]
    own = subject.model(question.clean[None]).logits
    off = float((both[0][0] - own).abs().max() / own.abs().max())
    if not off <= AGREE:
        raise WorkbenchError(
            f"TransformerLens's run of {card.architecture} differs from the model's by {off:.2g} "
            f"of its largest logit, so {site} cannot be patched there; choose another site."
        )
    kv_head = 2 if site in ("q", "k", "v") else 1
    for layer in range(card.n_layers):
        full = f"blocks.{layer}.{name}"
        if (
            full not in both[0][1]
            or both[0][1][full].ndim != 4
            or both[0][1][full].shape[kv_head] > card.n_heads
        ):
            raise WorkbenchError(
                f"TransformerLens has no {site} for {card.architecture}; choose another site."
            )

    def patched(side: int, layer: int, change: Callable[[Tensor], Tensor]) -> Tensor:
        hook = (f"blocks.{layer}.{name}", lambda x, hook: change(x))
        with torch.no_grad():
            return bridge.run_with_hooks(question.prompts[side][None], fwd_hooks=[hook])

    return _Runs(
        (both[0][0], both[1][0]),
        lambda side, layer: both[side][1][f"blocks.{layer}.{name}"][0],
        patched,
    )


def _attending(bridge: Any, site: str) -> str:
    """The name of the hook at a site inside attention.

    A norm over all heads at once (OLMo 2) mixes the heads' projections, so that one head can only
    be changed after it. There it is after the rotary turn too.
    """
    name = BRIDGED[site]
    attention = bridge.blocks[0].attn
    norm = getattr(attention, f"{site}_norm", None)
    weight = None if norm is None else getattr(norm, "weight", None)
    joint = weight is not None and weight.numel() > bridge.cfg.d_head
    if joint and hasattr(attention, f"hook_rot_{site}"):
        return name.replace("hook_", "hook_rot_")
    return name


def _sizes(activation: Tensor, site: str, n_layers: int) -> dict[str, int]:
    """How long each axis of the map is, read off an activation of one prompt."""
    head = 0 if site == "pattern" else 1
    pos = 1 if site == "pattern" else 0
    n_head = activation.shape[head] if activation.ndim == 3 else 0
    return {
        "layer": n_layers,
        "pos": activation.shape[pos],
        "head": n_head,
        "neuron": activation.shape[-1],
    }


def _putting(given: Tensor, where: tuple[Any, ...]) -> Callable[[Tensor], Tensor]:
    """A change that puts `given` at `where` of an activation."""

    def put(activation: Tensor) -> Tensor:
        activation = activation.clone()
        activation[(slice(None), *where)] = given
        return activation

    return put


def _where(site: str, at: dict[str, int]) -> tuple[Any, ...]:
    """The index of a cell in an activation without its batch axis."""
    if site == "pattern":
        return (at["head"],)
    if site == "neurons":
        return (slice(None), at["neuron"])
    if "head" in at:
        return (at.get("pos", slice(None)), at["head"])
    return (at["pos"],)


def hooked_sweep(
    subject: Subject,
    question: Pair,
    site: str,
    direction: str = "denoising",
    *,
    cells: list[Cell] | None = None,
    progress: Progress | None = None,
) -> tuple[Float[Tensor, "layer other"], tuple[float, float]]:
    """The logit difference of every cell by hooks, and those of the clean and the corrupted run.

    A short form of `hooked`.

    Args:
        subject: The model.
        question: The prompts and their answers.
        site: What is patched, one of `SITES`.
        direction: One of `DIRECTIONS`.
        cells: Indices of the cells to compute, the others stay NaN; None for all.
        progress: Called with the share done and a word about it.
    """
    swept = hooked(subject, question, Settings(site, direction), cells=cells, progress=progress)
    return swept.values, (swept.clean, swept.corrupted)
