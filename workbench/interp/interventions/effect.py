"""What an intervention does to an answer and what it costs elsewhere."""

from dataclasses import dataclass

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
    """What an intervention does, paired: the probe's metric on its clean prompts, and the loss on
    ordinary text.
    """

    base: str
    edited: str
    probe: str
    metric_name: str
    metric: Difference
    loss: Difference

    def headline(self) -> str:
        """What was found, in a few words."""
        return f"{self.probe}, {self.metric_name} {self.metric.difference:+.3f}; loss {self.loss.difference:+.4f} nats"

    def to_frame(self) -> pd.DataFrame:
        """Two rows: the probe's metric, and the loss on ordinary text."""
        rows = [
            {"measure": name, **vars(found)}
            for name, found in ((self.metric_name, self.metric), ("loss", self.loss))
        ]
        return pd.DataFrame(rows)


@public("base", "edited")
@own_modes
def effect_of(
    base: SubjectOrName, edited: SubjectOrName, probe: str, *, n: int = 50, seed: int = 1
) -> Effect:
    """Base and edited model on the same `n` fresh pairs of a probe, and on paragraphs of
    public-domain books.

    The loss is in nats a token, one number a paragraph.
    """
    asked = read_probe(probe)
    made = generate(base, asked, n, seed)
    metrics: list[list[float]] = [[], []]
    for item in made.items:
        for side, subject in enumerate((base, edited)):
            with torch.no_grad():
                logits = subject.model(item.pair.clean[None], logits_to_keep=1).logits
            metrics[side].append(
                float(metric_of(asked.metric, item.pair, logits[0, -1])(logits)[0])
            )
    return Effect(
        base.name,
        edited.name,
        probe,
        asked.metric,
        paired_difference(metrics[0], metrics[1]),
        cost_of(base, edited),
    )


def cost_of(base: Subject, edited: Subject) -> Difference:
    """What an edit costs on ordinary text: the loss on paragraphs of public-domain books, in nats a
    token, paired.
    """
    losses = [[_loss(subject, text) for text in TEXTS] for subject in (base, edited)]
    return paired_difference(losses[0], losses[1])


@torch.no_grad()
def _loss(subject: Subject, text: str) -> float:
    ids = torch.tensor([subject.ids(text)[: subject.n_ctx]], device=subject.device)
    logs = subject.model(ids).logits[0, :-1].float().log_softmax(-1)
    return float(-logs.gather(-1, ids[0, 1:, None]).mean())
