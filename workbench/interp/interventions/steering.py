"""A steering direction from contrasting prompts."""

from collections.abc import Sequence

import torch

from workbench.errors import WorkbenchError
from workbench.interp.engine.packed import reader
from workbench.interp.interventions.ablation import made_for, name_of
from workbench.modes import own_modes
from workbench.public import public
from workbench.subjects import SubjectOrName, load
from workbench.subjects.intervention import Edit, Intervention


@public("subject", loads=True)
@own_modes
def steering(
    subject: SubjectOrName,
    positive: Sequence[str],
    negative: Sequence[str],
    *,
    layer: int,
    strength: float = 1.0,
    method: str = "mean",
    name: str = "steered",
    base: str = "",
) -> Intervention:
    """An intervention that adds a steering vector to the residual stream.

    Args:
        subject: The model.
        positive: Prompts that have a quality.
        negative: As many prompts that lack it.
        layer: The layer after which the vector is added.
        strength: Factor of the vector.
        method: "mean", the difference of the means at the last token; or "svd", the first singular
            direction of the paired differences, at the length of their mean.
        name: Name of the intervention.
        base: What `load` takes for the model; "" for the model's own name.

    Raises:
        WorkbenchError: The numbers of prompts differ or are 0, or there is no such layer or method.

    Reference:
        Turner et al. 2023, arXiv:2308.10248; Panickssery et al. 2024, arXiv:2312.06681.
    """
    if not positive or len(positive) != len(negative):
        raise WorkbenchError(
            "Steering needs as many prompts with the quality as without, at least one; got "
            f"{len(positive)} and {len(negative)}."
        )
    base = base or name_of(subject)
    subject = load(subject)
    if not 0 <= layer < subject.card.n_layers:
        raise WorkbenchError(
            f"{subject.name} has no layer {layer}; it has {subject.card.n_layers}."
        )
    packed = reader(subject)
    sides = [
        torch.stack([packed.record(subject.encode(text)).resid[layer + 1][0, -1] for text in texts])
        for texts in (positive, negative)
    ]
    difference = sides[0] - sides[1]
    vector = difference.mean(0)
    if method == "svd":
        first = torch.linalg.svd(difference, full_matrices=False).Vh[0]
        vector = first * torch.sign(first @ vector) * vector.norm()
    elif method != "mean":
        raise WorkbenchError(f"The method is {method!r}; choose mean or svd.")
    edit = Edit(layer, "resid_post", (), "add", (vector * strength).tolist())
    prompts = f"from {len(negative)} to {len(positive)} prompts"
    words = f"{strength:g} x the direction {prompts}, after layer {layer}"
    return made_for(subject, Intervention(name, base, (edit,), words))
