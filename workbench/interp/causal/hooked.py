"""The same maps by TransformerLens's hooks, one whole run a cell: slow, for any architecture, and our referee."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.causal.metrics import metric_of
from workbench.interp.causal.pairs import Pair
from workbench.interp.causal.sites import SITES
from workbench.interp.causal.sweep import Progress, Settings, Swept, together
from workbench.subjects import Subject

HOOKS = {
    "z": "attn.hook_z",
    "z_by_pos": "attn.hook_z",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "neurons": "mlp.hook_post",
}
Cell = tuple[int, ...]


def hooked(
    subject: Subject,
    question: Pair,
    settings: Settings,
    *,
    cells: list[Cell] | None = None,
    progress: Progress | None = None,
) -> Swept:
    """The map of `settings` with the other run's activations; `cells` limits the work, the others stay NaN.

    Raises `WorkbenchError` where TransformerLens has no hook for the site, or the settings need the packed engine.
    """
    if question.parts:
        return together(question, settings, lambda part, how: hooked(subject, part, how, cells=cells))
    if settings.replacement not in ("other", "zero") or settings.several:
        raise WorkbenchError("Hooks patch single layers from the other run, or zero them; the packed engine does more.")
    bridge, axes, site = subject.bridge, SITES[settings.site], settings.site
    source, target = (0, 1) if settings.direction == "denoising" else (1, 0)
    if settings.ablates:
        source, target = 1, 0
    name = HOOKS.get(site, f"hook_{site}")
    with torch.no_grad():
        wanted = (name, "hook_resid_pre") if site == "resid_mid" else (name,)
        both = [bridge.run_with_cache(x[None], names_filter=lambda n: n.endswith(wanted)) for x in question.prompts]
        cache, theirs = both[target][1], both[source][1]
        n_layers = subject.card.n_layers
        if f"blocks.{n_layers - 1}.{name}" not in cache:
            raise WorkbenchError(f"TransformerLens has no {site} for {subject.card.architecture}; choose another site.")
        metric = metric_of(settings.metric, question, both[0][0][0, -1])
        clean, corrupted = (float(metric(logits)[0]) for logits, _ in both)
        layers = settings.layers(subject)
        sizes = _sizes(cache[f"blocks.{n_layers - 1}.{name}"], site, len(layers))
        sizes["pos"] = len(question.places) or sizes["pos"] - question.fed
        values = torch.full([sizes[axis] for axis in axes], float("nan"), dtype=subject.model.dtype)
        todo = cells if cells is not None else [tuple(c) for c in torch.ones(values.shape).nonzero().tolist()]
        for done, cell in enumerate(todo):
            full = f"blocks.{layers[cell[0]]}.{name}"
            here, there = ({**dict(zip(axes, cell, strict=True))} for _ in range(2))
            if question.places:
                place = question.places[cell[-1]]
                here["pos"], there["pos"] = place[1 + target], place[1 + source]
            given = theirs[full][0][_where(site, there)]
            if site == "resid_mid":
                full, given = _through_attention(bridge, layers[cell[0]], given, cache, here["pos"])
            given = torch.zeros_like(given) if settings.ablates else given
            hook = (full, _putting(given, _where(site, here)))
            out = bridge.run_with_hooks(question.prompts[target][None], fwd_hooks=[hook])
            values[cell] = metric(out)[0].to(values.dtype).cpu()
            if progress is not None and done % 8 == 0:
                progress((done + 1) / len(todo), f"{site}: {done + 1} of {len(todo)} hooked runs")
    return Swept(values, clean, corrupted, question.first_difference, metric)


def _sizes(activation: Tensor, site: str, n_layers: int) -> dict[str, int]:
    """How long each axis of the map is, read off an activation with its batch axis first."""
    head = 1 if site == "pattern" else 2
    pos = 2 if site == "pattern" else 1
    n_head = activation.shape[head] if activation.ndim == 4 else 0
    return {"layer": n_layers, "pos": activation.shape[pos], "head": n_head, "neuron": activation.shape[-1]}


def _putting(given: Tensor, where: tuple[Any, ...]) -> Any:
    """A hook that puts `given` at `where` of an activation."""

    def put(activation: Tensor, hook: Any) -> Tensor:
        activation = activation.clone()
        activation[(slice(None), *where)] = given
        return activation

    return put


def _through_attention(bridge: Any, layer: int, mid: Tensor, cache: Any, pos: int) -> tuple[str, Tensor]:
    """The hook and the value that make the stream after attention `mid` at a position of the target run.

    TransformerBridge's own `hook_resid_mid` is what ln2 reads: a patch there changes the MLP's input and leaves the
    stream that goes on past it as it was.
    """
    name = f"blocks.{layer}.ln1_post.hook_out"
    name = name if name in bridge.hook_dict else f"blocks.{layer}.hook_attn_out"
    return name, mid - cache[f"blocks.{layer}.hook_resid_pre"][0, pos]


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
    """The logit difference of every cell (or of `cells`) by hooks, and of the clean and the corrupted run."""
    found = hooked(subject, question, Settings(site, direction), cells=cells, progress=progress)
    return found.values, (found.clean, found.corrupted)
