"""Makes a transplant: an intervention that puts parts of one model's weights into another."""

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
    """An intervention that puts parts of `donor` into `base`; once saved it loads as edit:NAME.

    Args:
        base: The model to change; by name, so that the intervention can be loaded again.
        donor: The model that the parts are taken from, of the same shape.
        parts: Names such as "L3", "L3.attn", "L3H1", "embed" (see `subjects.parts`), in a list or
            separated by commas; "all" is the whole model.
        name: Of the edited model; by default made from the parts and the donor.
        alpha: How far the parts move from the base's weights (0) to the donor's (1).

    Raises:
        WorkbenchError: the models do not match, or do not have such parts.
    """
    first = load(base)
    second = load(donor)
    check_alike(first, second)
    known = Parts(first)
    names = parts.replace(",", " ").split() if isinstance(parts, str) else list(parts)
    if "all" in names:
        at = names.index("all")
        names = [*names[:at], *known.all, *(part for part in names[at:] if part != "all")]
    chosen = tuple(dict.fromkeys(names))
    if not chosen:
        raise WorkbenchError(
            "No part was named; name some such as L3, L3.attn, L3H1 or embed, with commas between."
        )
    for part in chosen:
        known.slices(part)
    host = resolve(base if isinstance(base, str) else first.name)
    giver = resolve(donor if isinstance(donor, str) else second.name)
    what = "everything" if chosen == tuple(known.all) else ", ".join(chosen)
    by = "" if alpha == 1 else f", moved by {alpha:g} of the way"
    own_name = f"{what[:40]}-of-{second.name}"
    own_name = own_name.replace(", ", "-").replace("/", "-").replace(":", "-")
    change = Intervention(
        name or own_name,
        host,
        (),
        f"{first.name} with {what} of {second.name}{by}",
        Transplant(giver, second.hash, first.hash, chosen, float(alpha)),
    )
    change.check()
    return change
