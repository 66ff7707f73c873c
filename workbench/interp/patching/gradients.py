"""Attribution patching: every cell of a map estimated from one gradient, instead of run.

The estimate of a patch is gradient x difference: what the metric would gain if the model were
linear between the run's own activation and the replacing one (Nanda 2023). It is off where the
model is not linear: at saturated attention, and where effects cancel (Kramar et al. 2024). Two
corrections: `steps`, the mean gradient over inputs on the way from one prompt to the other
(integrated gradients, as Hanna et al. 2024 do for edges), and `softmax`, which runs attention
itself exactly if queries or keys are patched (the first correction of Kramar et al.).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.map import Map
from workbench.interp.engine.metrics import Metric
from workbench.interp.engine.packed import engine, reader
from workbench.interp.engine.prepare import Prepared, prepare
from workbench.interp.engine.reader import Reader
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import Swept
from workbench.interp.prompts.pairs import Pair
from workbench.subjects import Subject

FIELDS = ("resid", "attn_out", "mlp_out", "post", "z", "attended", "queries", "keys", "values")
READ = {
    "resid_pre": "resid",
    "resid_mid": "mid",
    "resid_post": "resid",
    "attn_out": "attn_out",
    "mlp_out": "mlp_out",
    "z": "z",
    "z_by_pos": "z",
    "neurons": "post",
    "q": "queries",
    "k": "keys",
    "v": "values",
}
"""The field of a recording that a site patches; `pattern` is patched through `attended`."""
ESTIMATED = (*READ, "pattern")
"""Sites whose map can be estimated from gradients."""


@dataclass(frozen=True)
class Approximation:
    """How patches are estimated.

    - `steps`: inputs over which gradients are averaged; 1 is plain attribution patching
    - `softmax`: run attention exactly if queries or keys are patched
    """

    steps: int = 1
    softmax: bool = False

    def check(self, settings: Settings) -> None:
        """Raise `WorkbenchError` for what cannot be estimated."""
        if settings.site not in ESTIMATED:
            raise WorkbenchError(
                f"{settings.site} cannot be estimated from gradients, only patched; choose one of "
                f"{', '.join(ESTIMATED)}."
            )
        if self.steps < 1:
            raise WorkbenchError(f"A gradient is taken at one input at least, not {self.steps}.")
        if settings.several:
            raise WorkbenchError(
                "Attribution estimates one layer and one site at a time; leave the window at 1."
            )
        if settings.metric == "rank":
            raise WorkbenchError("A rank has no gradient; choose another metric.")
        if self.steps > 1 and settings.ablates:
            raise WorkbenchError("An ablation has no other prompt to go towards; take one step.")


def gradients(
    packed: Reader,
    ids: Tensor,
    embeddings: Float[Tensor, "batch pos d_model"],
    metric: Metric,
) -> tuple[Recording, Tensor, Float[Tensor, "batch pos d_model"]]:
    """The gradients of a metric with respect to every recorded activation.

    Args:
        packed: What records the runs.
        ids: Token ids of prompts of equal length, `[batch, pos]`.
        embeddings: What the model reads in their place.
        metric: What is differentiated, summed over the batch.

    Returns:
        A recording that holds gradients in place of activations, the metric of each run `[batch]`,
        and the gradients with respect to `embeddings`.
    """
    with torch.enable_grad():
        entered = embeddings.detach().clone().requires_grad_()
        run = packed.trace(ids, entered)
        values = metric(run.logits)
        names = [(name, i) for name in FIELDS for i in range(len(getattr(run, name)))]
        wanted = [getattr(run, name)[i] for name, i in names]
        on_path = [tensor for tensor in wanted if tensor.requires_grad]
        slopes_of = torch.autograd.grad(values.sum(), [entered, *on_path], allow_unused=True)
    slopes = Recording(arguments=run.arguments, scaling=run.scaling)
    rest = iter(slopes_of[1:])
    for (name, _), tensor in zip(names, wanted, strict=True):
        slope = next(rest) if tensor.requires_grad else None  # experts have no neurons
        getattr(slopes, name).append(torch.zeros_like(tensor) if slope is None else slope)
    slopes.mid = slopes.attn_out  # whatever reads the stream after attention reads both summed
    assert slopes_of[0] is not None
    return slopes, values.detach(), slopes_of[0]


def estimate_sweep(
    subject: Subject, question: Pair, settings: Settings, how: Approximation = Approximation()
) -> Swept:
    """All cells of a map by attribution: one forward and one backward pass per step.

    Args:
        subject: The model.
        question: The prompts and their answers.
        settings: What is swept.
        how: The approximation.

    Raises:
        WorkbenchError: The settings cannot be estimated.
        UnpackableError: The site is queries, keys, values or pattern, and the packed engine cannot
            run the model.
    """
    how.check(settings)
    packed = engine(subject) if settings.site in ("q", "k", "v", "pattern") else reader(subject)
    ready = prepare(subject, question, settings, packed)
    values = ready.blank() + estimates(ready, question, how).cpu()
    return Swept(values, ready.clean, ready.corrupted, ready.map.first, ready.metric)


def estimates(ready: Prepared, question: Pair, how: Approximation) -> Float[Tensor, "*axes"]:
    """The estimated change of the metric in every cell.

    Args:
        ready: The map, with both runs recorded.
        question: The prompts.
        how: The approximation.
    """
    target = ready.map.target
    own = ready.embeddings[target]
    other = ready.embeddings[1 - target]
    ids = (question.clean, question.corrupted)[target]
    shares = torch.zeros(1)
    if how.steps > 1:  # the midpoints of equal parts of the way
        shares = (torch.arange(how.steps, device=own.device) + 0.5) / how.steps
    path = own + shares.to(own)[:, None, None] * (other - own)  # [step, pos, d_model]
    slopes, _, _ = gradients(ready.map.packed, ids.expand(how.steps, -1), path, ready.metric)
    with torch.no_grad():
        return torch.stack([_row(ready.map, slopes, layer, how) for layer in ready.map.layers])


def _row(sweep: Map, slopes: Recording, layer: int, how: Approximation) -> Tensor:
    """One layer's cells: gradient x difference, summed over all that a cell patches together."""
    site = sweep.site
    if site == "resid_mid" and sweep.packed.parallel:
        raise WorkbenchError(
            "This model computes attention and MLP side by side, so it has no resid_mid."
        )
    if site == "pattern" or (how.softmax and site in ("q", "k")):
        own = sweep.run.attended[layer][sweep.target]
        moved = (slopes.attended[layer].mean(0) * (sweep.patched_z(layer) - own)).sum((0, 2))
        return moved.unflatten(0, (sweep.shape()[1], -1)).sum(-1)
    at = layer + (site == "resid_post")
    name = READ[site]
    difference = sweep.source(name, at) - getattr(sweep.run, name)[at][sweep.target]
    product = getattr(slopes, name)[at].mean(0) * difference
    if site in ("q", "k", "v"):
        return product.sum((1, 2))
    if site in ("z", "neurons"):
        return product.sum(0) if site == "neurons" else product.sum((0, 2))
    product[: sweep.first] = 0  # rounding: these cells are the run itself
    return product.sum(-1).movedim(0, -1)
