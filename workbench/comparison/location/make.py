"""Making a transplant: an intervention that brings parts of one model's weights into another."""

from collections.abc import Sequence

from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.public import public
from workbench.subjects import SubjectOrName, load, resolve
from workbench.subjects.intervention import Intervention, Transplant, check_alike
from workbench.subjects.parts import Parts


@public("base", "donor", loads=True)
@own_modes
def transplant(
    base: SubjectOrName,
    donor: SubjectOrName,
    parts: Sequence[str] | str,
    *,
    name: str = "",
    alpha: float = 1.0,
) -> Intervention:
    """An intervention that puts these parts of `donor` into `base`; kept with `.save()`, it loads
    as edit:NAME.

    Args:
        base: The model that receives; by name, so that the intervention can be loaded again.
        donor: The model that gives, of the same shape.
        parts: Names such as "L3", "L3.attn", "L3H1", "embed" (see `subjects.parts`), in a list or
            with commas; "all" is the whole model.
        name: What the edited model is called.
        alpha: How far the parts move from the base's weights (0) to the donor's (1).

    Raises `WorkbenchError` for models that do not fit each other and for parts that they do not
    have.
    """
    first, second = load(base), load(donor)
    check_alike(first, second)
    known = Parts(first)
    words = parts.replace(",", " ").split() if isinstance(parts, str) else list(parts)
    chosen = tuple(
        dict.fromkeys(part for word in words for part in (known.all if word == "all" else [word]))
    )
    if not chosen:
        raise WorkbenchError(
            "No part was named; name some such as L3, L3.attn, L3H1 or embed, with commas between."
        )
    for part in chosen:
        known.slices(part)
    sources = [
        subject_or if isinstance(subject_or, str) else subject_or.name
        for subject_or in (base, donor)
    ]
    host, giver = (resolve(source) for source in sources)
    said = "everything" if chosen == tuple(known.all) else ", ".join(chosen)
    by = "" if alpha == 1 else f", moved by {alpha:g} of the way"
    change = Intervention(
        name
        or f"{said[:40]}-of-{second.name}".replace(", ", "-").replace("/", "-").replace(":", "-"),
        host,
        (),
        f"{first.name} with {said} of {second.name}{by}",
        Transplant(giver, second.hash, first.hash, chosen, float(alpha)),
    )
    change.check()
    return change
