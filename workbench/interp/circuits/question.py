"""One prompt pair as a circuit search sees it: both runs recorded, and what every part wrote in
them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.interp.circuits.edges import Graph, masked, run_graph, sender_values
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.metrics import Metric, metric_of
from workbench.interp.engine.packed import PackedEngine


@dataclass(frozen=True)
class Question:
    """One pair, run both ways: `clean` and `corrupted` are what the senders wrote, `ends` the
    metric of both runs.
    """

    run: Recording
    other: Recording
    clean: Float[Tensor, "sender pos d_model"]
    corrupted: Float[Tensor, "sender pos d_model"]
    metric: Metric
    ends: tuple[float, float]

    @property
    def span(self) -> float:
        """From the corrupted to the clean metric."""
        return self.ends[0] - self.ends[1]


@torch.no_grad()
def question_of(packed: PackedEngine, pair: Any, metric_name: str) -> Question:
    """Record a tokenised pair."""
    clean, corrupted = (packed.record(ids[None]) for ids in (pair.clean, pair.corrupted))
    metric = metric_of(metric_name, pair, clean.logits[0, -1])
    ends = tuple(float(metric(run.logits)[0]) for run in (clean, corrupted))
    written = [sender_values(packed, run, 0) for run in (clean, corrupted)]
    return Question(clean, corrupted, written[0], written[1], metric, (ends[0], ends[1]))


@torch.no_grad()
def faithfulness(
    packed: PackedEngine, graph: Graph, question: "Question", mask: Bool[Tensor, "receiver sender"]
) -> float:
    """The metric of a circuit, run exactly: 0 is the corrupted run, 1 the clean run."""
    read = masked(mask.to(question.clean.device), question.corrupted)
    logits = run_graph(packed, graph, question.run, question.clean[0], read)
    return float(question.metric(logits[None, None])[0])
