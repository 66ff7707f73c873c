"""Audit of a circuit: edges in it that it can do without, and edges outside that were missed."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.interp.circuits.edges import Graph, edge_effects
from workbench.interp.circuits.question import Question, faithfulness
from workbench.interp.engine.packed import PackedEngine
from workbench.statistics import Estimate, estimate_mean, estimate_ratio, largest_share

MATTERS = 0.01
"""Share of the metric that an edge outside must move to count as missed."""


@dataclass(frozen=True)
class Audit:
    """Random edges outside the circuit, each run exactly: what the gradient may have missed.

    - `edges`: how many of the `outside` edges were run
    - `missed`: how many of them move the metric by `matters` or more (mean over the pairs, as a
        share)
    - `most`: 95 % upper bound on the share of such edges outside (Clopper-Pearson, one-sided), so
        at most `most * outside` edges were missed
    - `largest`, `name`: the largest effect, and its edge
    - `mean`: the mean effect
    """

    edges: int
    outside: int
    missed: int
    most: float
    largest: float
    name: str
    mean: Estimate
    matters: float = MATTERS


@torch.no_grad()
def exact_losses(
    packed: PackedEngine, graph: Graph, questions: list[Question], edges: list[tuple[int, int]]
) -> Float[np.ndarray, "pair edge"]:
    """What the metric loses, as a share, when one edge alone carries the corrupted run.

    Args:
        packed: The engine.
        graph: The model's graph.
        questions: The prompt pairs.
        edges: (receiver, sender) of each edge.
    """
    span = float(np.mean([q.span for q in questions]))
    lost = []
    for question in questions:
        finals = edge_effects(
            packed, graph, question.run, question.corrupted - question.clean, edges
        )
        values = question.metric.of(packed.logits(finals, question.metric.tokens))
        lost.append((question.ends[0] - values.double().cpu().numpy()) / span)
    return np.array(lost)


def audit(
    packed: PackedEngine,
    graph: Graph,
    questions: list[Question],
    outside: Tensor,
    *,
    n: int,
    seed: int,
) -> Audit | None:
    """The effects of `n` random edges outside a circuit, each run exactly; None for no edges.

    Args:
        packed: The engine.
        graph: The model's graph.
        questions: The prompt pairs.
        outside: Mask of the edges outside, `[receiver, sender]`.
        n: Edges to run.
        seed: Of the draw.
    """
    all_edges = outside.nonzero().tolist()
    if not all_edges or n < 1:
        return None
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(all_edges), generator=generator)[:n].tolist()
    edges = [(all_edges[i][0], all_edges[i][1]) for i in drawn]
    mean = exact_losses(packed, graph, questions, edges).mean(0)
    missed = int((np.abs(mean) >= MATTERS).sum())
    worst = int(np.abs(mean).argmax())
    receiver, sender = edges[worst]
    return Audit(
        len(edges),
        len(all_edges),
        missed,
        largest_share(missed, len(edges)),
        float(mean[worst]),
        f"{graph.senders[sender]} → {graph.receivers[receiver]}",
        estimate_mean(mean),
    )


def minimality(
    packed: PackedEngine,
    graph: Graph,
    questions: list[Question],
    inside: Tensor,
    edges: list[tuple[int, int]],
) -> list[Estimate]:
    """What the circuit's faithfulness loses without each of some edges.

    Args:
        packed: The engine.
        graph: The model's graph.
        questions: The prompt pairs.
        inside: Mask of the circuit, `[receiver, sender]`.
        edges: (receiver, sender) of the edges to leave out, one at a time.

    Reference:
        Wang et al. 2022, arXiv:2211.00593: every part of a circuit should be needed.
    """
    spans = np.array([q.span for q in questions])
    whole = np.array([faithfulness(packed, graph, q, inside) for q in questions])
    losses = []
    for edge in edges:
        mask = inside.clone()
        mask[edge] = False
        without = np.array([faithfulness(packed, graph, q, mask) for q in questions])
        losses.append(estimate_ratio(whole - without, spans))
    return losses
