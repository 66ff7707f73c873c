"""Whether a model can do a probe at all."""

from workbench.errors import WorkbenchError
from workbench.interp.prompts.probes import Items, Probe, generate
from workbench.statistics import Estimate, estimate_mean
from workbench.subjects import Subject

ASKED = 20
"""Pairs on which it is settled whether a model can do a probe."""


def able(subject: Subject, made: Items) -> Estimate:
    """The share of pairs whose clean and corrupted run each prefer their own answer, with its
    interval.
    """
    import torch

    right = []
    for item in made.items:
        with torch.no_grad():
            ends = [
                subject.model(ids[None], logits_to_keep=1).logits[:, -1]
                for ids in item.pair.prompts
            ]
        logits = torch.cat(ends).float().softmax(-1)
        gap = logits[:, list(item.pair.answers)].sum(-1) - logits[:, list(item.pair.wrongs)].sum(-1)
        right.append(float(gap[0] > gap[1]))
    return estimate_mean(right)


class UnableError(WorkbenchError):
    """The model is not better than chance at a probe; a map may be asked for all the same
    (`anyway`).
    """


def require(subject: Subject, asked: Probe, seed: int = 0) -> Estimate:
    """`able` on twenty pairs, which must be better than chance.

    Raises `UnableError` where the model cannot do the probe.
    """
    found = able(subject, generate(subject, asked, ASKED, seed))
    if not found.low > 0.5:
        raise UnableError(
            f"{subject.name} cannot do {asked.name}: the answer is more likely after the clean prompt than after "
            f"the corrupted one in {found.value:.0%} of {found.n} pairs (chance: 50 %), so a map would show nothing. "
            "Choose another model or probe, or ask for the map anyway."
        )
    return found
