"""What a circuit leaves open: edges in it that it can do without, and edges outside that the screen
may have missed.
"""

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
"""Share of the metric from which on an edge counts as missed."""


@dataclass(frozen=True)
class Audit:
    """Random edges outside the circuit, each run exactly: what the gradient's screen may have
    missed.

    `edges` of `outside` were run; `missed` of them move the metric by `matters` or more (mean over
    the pairs, as a share). `most` is the 95 % upper bound on the share of such edges outside
    (Clopper-Pearson, one-sided), so at most `most * outside` edges were missed. `largest` is the
    largest effect found, `name` its edge; `mean` the mean effect.
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
    """What the metric loses, as a share, when one edge (receiver, sender) alone carries the
    corrupted run.
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
    """Run `n` random edges of the mask `outside` exactly; None where there are none."""
    all_edges = outside.nonzero().tolist()
    if not all_edges or n < 1:
        return None
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(all_edges), generator=generator)[:n].tolist()
    edges = [tuple(all_edges[i]) for i in drawn]
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
    """What the circuit's faithfulness loses without one of its edges (Wang et al. 2022: each part
    should be needed).
    """
    spans = np.array([q.span for q in questions])
    whole = np.array([faithfulness(packed, graph, q, inside) for q in questions])
    found = []
    for edge in edges:
        mask = inside.clone()
        mask[edge] = False
        less = np.array([faithfulness(packed, graph, q, mask) for q in questions])
        found.append(estimate_ratio(whole - less, spans))
    return found
