"""One prompt pair of a circuit search: both runs recorded, and what every part wrote in them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.interp.circuits.edges import Graph, masked, run_graph, sender_values
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.metrics import Metric, metric_of
from workbench.interp.engine.packed import PackedEngine
from workbench.interp.prompts.pairs import Pair


@dataclass(frozen=True)
class Question:
    """One prompt pair, with both runs recorded.

    - `run`, `other`: the clean and the corrupted run
    - `clean`, `corrupted`: what the senders wrote in them
    - `ends`: the metric of both
    """

    run: Recording
    other: Recording
    clean: Float[Tensor, "sender pos d_model"]
    corrupted: Float[Tensor, "sender pos d_model"]
    metric: Metric
    ends: tuple[float, float]

    @property
    def span(self) -> float:
        """The clean metric minus the corrupted one."""
        return self.ends[0] - self.ends[1]


@torch.no_grad()
def question_of(packed: PackedEngine, pair: Pair, metric_name: str) -> Question:
    """A tokenized pair with both runs recorded.

    Args:
        packed: The engine.
        pair: The prompts and their answers.
        metric_name: One of `METRICS`.
    """
    clean = packed.record(pair.clean[None])
    corrupted = packed.record(pair.corrupted[None])
    metric = metric_of(metric_name, pair, clean.logits[0, -1])
    return Question(
        run=clean,
        other=corrupted,
        clean=sender_values(packed, clean, 0),
        corrupted=sender_values(packed, corrupted, 0),
        metric=metric,
        ends=(float(metric(clean.logits)[0]), float(metric(corrupted.logits)[0])),
    )


@torch.no_grad()
def faithfulness(
    packed: PackedEngine, graph: Graph, question: Question, mask: Bool[Tensor, "receiver sender"]
) -> float:
    """The metric of a circuit, run exactly, in the metric's unit.

    Args:
        packed: The engine.
        graph: The model's graph.
        question: The prompt pair.
        mask: The edges that carry the clean run; all others carry the corrupted one.
    """
    read = masked(mask.to(question.clean.device), question.corrupted)
    logits = run_graph(packed, graph, question.run, question.clean[0], read)
    return float(question.metric(logits[None, None])[0])
