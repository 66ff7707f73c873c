"""The same maps by hooks, one whole run a cell: slow, for any architecture, and our referee.

Streams, what is written into them, heads' outputs and neurons are changed by plain hooks on the
model; queries, keys, values and patterns by TransformerLens's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.metrics import metric_of
from workbench.interp.engine.reader import plain_reader
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

    `activations` gives what a layer has at the site in a run, without the batch axis; `patched` the
    logits of the run of one side, with an activation of a layer changed.
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
    """The map of `settings` with the other run's activations; `cells` limits the work, the others
    stay NaN.

    Raises `WorkbenchError` where there is no hook for the site, or the settings need the packed
    engine.
    """
    if question.parts:
        return together(
            question, settings, lambda part, how: hooked(subject, part, how, cells=cells)
        )
    if settings.replacement not in ("other", "zero") or settings.several:
        raise WorkbenchError(
            "Hooks patch single layers from the other run, or zero them; the packed engine does more."
        )
    axes, site = SITES[settings.site], settings.site
    source, target = (0, 1) if settings.direction == "denoising" else (1, 0)
    if settings.ablates:
        source, target = 1, 0
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
    todo = (
        cells
        if cells is not None
        else [tuple(c) for c in torch.ones(values.shape).nonzero().tolist()]
    )
    for done, cell in enumerate(todo):
        here, there = ({**dict(zip(axes, cell, strict=True))} for _ in range(2))
        if question.places:
            place = question.places[cell[-1]]
            here["pos"], there["pos"] = place[1 + target], place[1 + source]
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
    plain, site = plain_reader(subject), settings.site
    if not site.startswith("resid_p"):
        assert plain.blocks
    if site == "resid_mid" and plain.parallel:
        raise WorkbenchError(
            "This model computes attention and MLP side by side, so it has no resid_mid."
        )
    if site == "neurons":
        for layer in settings.layers(subject):
            plain.need_neurons(layer)
    recorded: list[Recording] = [plain.record(ids[None]) for ids in question.prompts]
    field, after = PLAIN[site], int(site == "resid_post")
    hook = {"z_by_pos": "z", "neurons": "post"}.get(site, site)

    def activations(side: int, layer: int) -> Tensor:
        return getattr(recorded[side], field)[layer + after][0]

    def patched(side: int, layer: int, change: Callable[[Tensor], Tensor]) -> Tensor:
        ids = question.prompts[side][None]
        if (
            site == "resid_mid"
        ):  # the stream goes on past the MLP too: what attention adds makes it what it is to be
            before = recorded[side].resid[layer]
            with plain.changed("attn_out", layer, lambda added: change(before + added) - before):
                return plain.run(ids)
        with plain.changed(hook, layer, change):
            return plain.run(ids)

    return _Runs((recorded[0].logits, recorded[1].logits), activations, patched)


@torch.no_grad()
def _bridged_runs(subject: Subject, question: Pair, site: str) -> _Runs:
    """Both runs by TransformerLens's hooks."""
    bridge, card = subject.bridge, subject.card
    name = _attending(bridge, site)

    def run(ids: Int[Tensor, " pos"]) -> tuple[Tensor, Any]:
        return bridge.run_with_cache(ids[None], names_filter=lambda n: n.endswith(name))

    both = [run(ids) for ids in question.prompts]
    own = subject.model(question.clean[None]).logits
    off = float((both[0][0] - own).abs().max() / own.abs().max())
    if not off <= AGREE:
        raise WorkbenchError(
            f"TransformerLens's run of {card.architecture} differs from the model's by {off:.2g} of its largest logit, "
            f"so {site} cannot be patched there; choose another site."
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
    """The hook of what attends at a site.

    A norm over all heads at once (OLMo 2) makes every head's query of each head's projection; one
    head's query alone is first to be had after it, where it is turned by its position too.
    """
    name = BRIDGED[site]
    attention = bridge.blocks[0].attn
    norm = getattr(attention, f"{site}_norm", None)
    weight = None if norm is None else getattr(norm, "weight", None)
    joint = weight is not None and weight.numel() > bridge.cfg.d_head
    return (
        name.replace("hook_", "hook_rot_")
        if joint and hasattr(attention, f"hook_rot_{site}")
        else name
    )


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
    """The logit difference of every cell (or of `cells`) by hooks, and of the clean and the
    corrupted run.
    """
    found = hooked(subject, question, Settings(site, direction), cells=cells, progress=progress)
    return found.values, (found.clean, found.corrupted)
