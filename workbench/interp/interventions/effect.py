"""The effect of an intervention on a probe, and its cost on ordinary text."""

from dataclasses import dataclass
from typing import cast

import pandas as pd
import torch

from workbench.data.passages import TEXTS
from workbench.interp.engine.metrics import metric_of
from workbench.interp.prompts.probes import generate, read_probe
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Difference, paired_difference
from workbench.subjects import Subject, SubjectOrName


@dataclass(frozen=True)
class Effect(Record):
    """The paired effect of an intervention.

    - `metric`: on the probe's clean prompts
    - `loss`: on ordinary text, in nats per token
    """

    base: str
    edited: str
    probe: str
    metric_name: str
    metric: Difference
    loss: Difference

    def headline(self) -> str:
        """The result in a few words."""
        change = f"{self.probe}, {self.metric_name} {self.metric.difference:+.3f}"
        return f"{change}; loss {self.loss.difference:+.4f} nats"

    def to_frame(self) -> pd.DataFrame:
        """Two rows: the probe's metric, and the loss on ordinary text."""
        rows = [
            {"measure": self.metric_name, **vars(self.metric)},
            {"measure": "loss", **vars(self.loss)},
        ]
        return pd.DataFrame(rows)


@public("base", "edited")
@own_modes
def effect_of(
    base: SubjectOrName, edited: SubjectOrName, probe: str, *, n: int = 50, seed: int = 1
) -> Effect:
    """The difference between a model and its edited version on a probe and on ordinary text.

    Args:
        base: The model.
        edited: The model with an intervention.
        probe: A built-in probe or a .toml file.
        n: Prompt pairs, the same for both models.
        seed: Of the pairs; other than the default of `probe`, so that the pairs are fresh.
    """
    base = cast(Subject, base)
    edited = cast(Subject, edited)
    task = read_probe(probe)
    pairs = generate(base, task, n, seed)
    metrics: list[list[float]] = [[], []]
    for item in pairs.items:
        for side, subject in enumerate((base, edited)):
            with torch.no_grad():
                logits = subject.model(item.pair.clean[None], logits_to_keep=1).logits
            metric = metric_of(task.metric, item.pair, logits[0, -1])
            metrics[side].append(float(metric(logits)[0]))
    return Effect(
        base.name,
        edited.name,
        probe,
        task.metric,
        paired_difference(metrics[0], metrics[1]),
        cost_of(base, edited),
    )


def cost_of(base: Subject, edited: Subject) -> Difference:
    """The change of loss on ordinary text (public-domain books), in nats per token."""
    losses = [[_loss(subject, text) for text in TEXTS] for subject in (base, edited)]
    return paired_difference(losses[0], losses[1])


@torch.no_grad()
def _loss(subject: Subject, text: str) -> float:
    ids = torch.tensor([subject.ids(text)[: subject.n_ctx]], device=subject.device)
    logs = subject.model(ids).logits[0, :-1].float().log_softmax(-1)
    return float(-logs.gather(-1, ids[0, 1:, None]).mean())
