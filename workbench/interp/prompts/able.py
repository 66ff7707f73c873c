"""Checks whether a model can do a probe at all."""

from workbench.errors import WorkbenchError
from workbench.interp.prompts.probes import Items, Probe, generate
from workbench.statistics import Estimate, estimate_mean
from workbench.subjects import Subject

N_PAIRS = 20
"""Pairs that decide whether a model can do a probe."""


def able(subject: Subject, pairs: Items) -> Estimate:
    """The share of pairs whose clean and corrupted run each prefer their own answer."""
    import torch

    right = []
    for item in pairs.items:
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
    """The model is no better than chance at a probe; `anyway` gives a map all the same."""


def require(subject: Subject, probe: Probe, seed: int = 0) -> Estimate:
    """The model's share of right pairs, which must be better than chance.

    Args:
        subject: The model.
        probe: The probe.
        seed: Of the pairs.

    Raises:
        UnableError: The lower end of the 95 % interval is not above one half.
    """
    share = able(subject, generate(subject, probe, N_PAIRS, seed))
    if not share.low > 0.5:
        raise UnableError(
            f"{subject.name} cannot do {probe.name}: the answer is more likely after the clean "
            f"prompt than after the corrupted one in {share.value:.0%} of {share.n} pairs (chance: "
            "50 %), so a map would show nothing. Choose another model or probe, or ask for the map "
            "anyway."
        )
    return share
