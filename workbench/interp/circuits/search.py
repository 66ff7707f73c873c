"""Circuit search: the edges between a model's parts that carry a probe, verified exactly.

Edge attribution patching with integrated gradients (Nanda 2023; Syed et al. 2023; Hanna et al.
2024) scores every edge at once; the circuits it proposes are then run exactly, at every size,
against random circuits of the same size. Half of the pairs choose the edges and the size, the other
half judge them: on the pairs that chose it a circuit looks better than it is.
"""

import time
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.interp.circuits.audit import Audit, exact_losses, minimality
from workbench.interp.circuits.audit import audit as audit_edges
from workbench.interp.circuits.edges import Graph, graph_of, run_graph
from workbench.interp.circuits.question import Question, faithfulness, question_of
from workbench.interp.engine.packed import PackedEngine, engine
from workbench.interp.patching.checks import failed
from workbench.interp.prompts.able import require
from workbench.interp.prompts.held_out import n_choosing
from workbench.interp.prompts.probes import generate, read_probe
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Estimate, estimate_mean, estimate_ratio
from workbench.subjects import Subject, SubjectOrName

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
FAITHFUL = 0.85
"""Share of the metric that a circuit must bring back to be chosen."""


@dataclass(frozen=True)
class Size:
    """Circuits of one size: shares of the way from the corrupted (0) to the clean metric (1).

    - `faithfulness`: only the circuit's edges carry the clean run
    - `without`: all other edges do (0 if the circuit is complete)
    - `random`: as many random edges
    - `chosen_on`: the faithfulness over the pairs that chose the edges, which flatters; the other
        three are over the held-out pairs
    """

    edges: int
    faithfulness: Estimate
    without: Estimate
    random: Estimate
    chosen_on: Estimate


@dataclass(frozen=True)
class Circuit(Record):
    """A probe's circuit: the curve over sizes, the chosen size, and its edges.

    `edges` has a row for each edge of the chosen circuit:

    - `sender`, `receiver`, and `score`, the gradient's estimate
    - `exact` with `low` and `high` (the strongest edges only): what the metric loses, as a share,
        when that edge alone carries the corrupted run
    - `needed` (minimality): what the circuit's faithfulness loses without the edge;
        `needed_chosen_on` is the same over the pairs that chose it

    `correlation` is between estimate and exact value; `checks` compare the graph with the model.
    The `n` pairs gave the scores and the size; all else is over the `n_held_out` others.
    """

    subject: str
    sha256: str
    probe: str
    metric_name: str
    n: int
    n_edges: int
    clean_metric: Estimate
    corrupted_metric: Estimate
    curve: list[Size]
    chosen: int
    edges: pd.DataFrame
    correlation: float
    seconds: float
    seconds_screen: float
    checks: dict[str, float] = field(default_factory=dict)
    audit: Audit | None = None
    n_held_out: int = 0

    def failed_checks(self) -> list[str]:
        """The checks that failed, in words."""
        return failed(self.checks)

    def headline(self) -> str:
        """The result in a few words."""
        chosen = next(size for size in self.curve if size.edges == self.chosen)
        faithful = f"faithfulness {chosen.faithfulness.value:.3f}"
        return f"{self.probe}: {self.chosen} of {self.n_edges} edges, {faithful}"

    @property
    def heads(self) -> list[tuple[int, int]]:
        """The heads of the circuit, by the sum of their edges' absolute scores, largest first."""
        weight: dict[tuple[int, int], float] = {}
        for sender, score in zip(self.edges["sender"], self.edges["score"], strict=True):
            if sender.startswith("L"):
                layer, _, head = sender[1:].partition("H")
                key = int(layer), int(head)
                weight[key] = weight.get(key, 0.0) + abs(score)
        return sorted(weight, key=lambda head: -weight[head])

    def to_frame(self) -> pd.DataFrame:
        """One row per edge of the chosen circuit, the strongest first."""
        return self.edges


@public("subject")
@own_modes
def circuit(
    subject: SubjectOrName,
    probe: str,
    *,
    n: int = 6,
    held_out: int | None = None,
    steps: int = 5,
    verify: int = 20,
    audit: int = 60,
    seed: int = 0,
    progress: Progress | None = None,
) -> Circuit:
    """The circuit of a probe: found on `n` prompt pairs, evaluated on `held_out` others.

    Args:
        subject: The model; its parts must write straight into the stream (not Gemma's).
        probe: A built-in probe or a .toml file.
        n: Prompt pairs that choose the edges and the size.
        held_out: Other pairs, on which the circuit is evaluated; None for as many. If the probe has
            fewer pairs, each side gets its share of them.
        steps: Steps of the integrated gradients; 1 is plain edge attribution patching.
        verify: How many of the strongest edges are also measured exactly, with their minimality.
        audit: Random edges outside the circuit that are run exactly, to bound what the gradients
            missed.
        seed: For the pairs and the random circuits.
        progress: Called with the share done and a word about it.

    Raises:
        WorkbenchError: The model cannot do the probe, its parts do not write straight into the
            stream, or there are too few pairs.

    Reference:
        Syed et al. 2023, arXiv:2310.10348; Hanna et al. 2024, arXiv:2403.17806.
    """
    subject = cast(Subject, subject)
    n_held = n if held_out is None else held_out
    tell = progress or (lambda share, words: None)
    began = time.perf_counter()
    task = read_probe(probe)
    pairs = generate(subject, task, max(0, n + n_held), seed)
    choose = n_choosing(len(pairs.items), n, n_held, f"A circuit of {probe}")
    require(subject, task, seed)
    packed = engine(subject)
    everyone = [question_of(packed, item.pair, task.metric) for item in pairs.items]
    questions = everyone[:choose]
    judges = everyone[choose:]
    graph = graph_of(packed, questions[0].run)
    scores = torch.zeros(len(graph.receivers), len(graph.senders))
    for i, question in enumerate(questions):
        tell(0.4 * i / len(questions), f"gradients of pair {i + 1} of {len(questions)}")
        scores += edge_scores(packed, graph, question, steps).cpu() / len(questions)
    screened = time.perf_counter() - began
    possible = graph.possible()
    order = scores.abs().masked_fill(~possible, -1).flatten().argsort(descending=True)
    n_edges = int(possible.sum())
    curve: list[Size] = []
    chosen = None
    sizes = [size for size in SIZES if size < n_edges]
    for i, size in enumerate(sizes):
        tell(0.4 + 0.5 * i / len(sizes), f"circuits of {size} edges, run exactly")
        curve.append(_size(packed, graph, questions, judges, order, possible, size, seed))
        if chosen is None and curve[-1].chosen_on.value >= FAITHFUL:
            chosen = size
        if chosen is not None and size >= 4 * chosen:
            break
    chosen = chosen or sizes[-1]
    tell(0.92, f"the {verify} strongest edges, verified one by one")
    edges, correlation = _edges(packed, graph, questions, judges, scores, order, chosen, verify)
    tell(0.97, f"{audit} random edges outside the circuit")
    outside = possible & ~_first(order, possible, chosen)
    beyond = audit_edges(packed, graph, judges, outside, n=audit, seed=seed)
    ends = np.array([q.ends for q in judges])
    return Circuit(
        subject.name,
        subject.hash,
        probe,
        task.metric,
        len(questions),
        n_edges,
        estimate_mean(ends[:, 0]),
        estimate_mean(ends[:, 1]),
        curve,
        chosen,
        edges,
        correlation,
        time.perf_counter() - began,
        screened,
        _checks(packed, graph, questions[0], possible),
        beyond,
        len(judges),
    )


@torch.enable_grad()
def edge_scores(
    packed: PackedEngine, graph: Graph, question: Question, steps: int
) -> Float[Tensor, "receiver sender"]:
    """How much the metric falls, to first order, when an edge carries the corrupted run.

    Args:
        packed: The engine.
        graph: The model's graph.
        question: The prompt pair.
        steps: Inputs on the way from the corrupted to the clean embedding over which the gradient
            is averaged.
    """
    shape = question.clean.shape[1:]
    gradient = torch.zeros(
        len(graph.receivers), *shape, dtype=question.clean.dtype, device=question.clean.device
    )
    for step in range(1, steps + 1):
        embedding = question.corrupted[0] + step / steps * (
            question.clean[0] - question.corrupted[0]
        )
        nothing = torch.zeros_like(gradient, requires_grad=True)

        def read(first: int, n: int, written: Tensor, nothing: Tensor = nothing) -> Tensor:
            return written.sum(0) + nothing[first : first + n]

        logits = run_graph(packed, graph, question.run, embedding, read)
        (slope,) = torch.autograd.grad(question.metric(logits[None, None])[0], nothing)
        gradient += slope / steps
    return gradient.flatten(1) @ (question.clean - question.corrupted).flatten(1).T


def _first(order: Tensor, possible: Tensor, size: int) -> Bool[Tensor, "receiver sender"]:
    """The `size` edges with the strongest scores, as a mask."""
    inside = torch.zeros(possible.numel(), dtype=torch.bool)
    inside[order[:size]] = True
    return inside.view_as(possible)


def _size(
    packed: PackedEngine,
    graph: Graph,
    questions: list[Question],
    judges: list[Question],
    order: Tensor,
    possible: Tensor,
    size: int,
    seed: int,
) -> Size:
    """The circuit of the `size` strongest edges, on the pairs that chose them and on `judges`."""
    inside = _first(order, possible, size)
    anywhere = possible.flatten().nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    chances = []
    for _ in judges:
        chance = torch.zeros(possible.numel(), dtype=torch.bool)
        chance[anywhere[torch.randperm(len(anywhere), generator=generator)[:size]]] = True
        chances.append(chance.view_as(possible))

    def shares(on: list[Question], masks: list[Tensor]) -> Estimate:
        gained = []
        for question, mask in zip(on, masks, strict=True):
            gained.append(faithfulness(packed, graph, question, mask) - question.ends[1])
        return estimate_ratio(gained, [question.span for question in on])

    return Size(
        size,
        faithfulness=shares(judges, [inside] * len(judges)),
        without=shares(judges, [possible & ~inside] * len(judges)),
        random=shares(judges, chances),
        chosen_on=shares(questions, [inside] * len(questions)),
    )


@torch.no_grad()
def _edges(
    packed: PackedEngine,
    graph: Graph,
    questions: list[Question],
    judges: list[Question],
    scores: Tensor,
    order: Tensor,
    chosen: int,
    verify: int,
) -> tuple[pd.DataFrame, float]:
    """The table of the chosen circuit's edges, and the correlation of estimate and exact value."""
    senders = graph.senders
    receivers = graph.receivers
    span = float(np.mean([q.span for q in questions]))
    where = [divmod(int(i), len(senders)) for i in order[:chosen]]  # (receiver, sender)
    table = pd.DataFrame(
        {
            "sender": [senders[s] for _, s in where],
            "receiver": [receivers[r] for r, _ in where],
            "score": [float(scores[r, s]) / span for r, s in where],
        }
    )
    lost = exact_losses(packed, graph, judges, where[:verify])
    spans = np.array([q.span for q in judges])
    exact = [estimate_ratio(column, spans / spans.mean()) for column in lost.T]
    inside = _first(order, graph.possible(), chosen)
    needed, flattered = (
        minimality(packed, graph, q, inside, where[:verify]) for q in (judges, questions)
    )
    for prefix, name, estimates in (
        ("", "exact", exact),
        ("needed_", "needed", needed),
        ("needed_chosen_", "needed_chosen_on", flattered),
    ):
        for column, value in ((name, "value"), (f"{prefix}low", "low"), (f"{prefix}high", "high")):
            table[column] = [getattr(e, value) for e in estimates] + [np.nan] * (
                len(table) - len(estimates)
            )
    both = table.dropna(subset=["exact"])
    correlation = (
        float(np.corrcoef(both["score"], both["exact"])[0, 1]) if len(both) > 2 else float("nan")
    )
    return table, correlation


def _checks(
    packed: PackedEngine, graph: Graph, question: Question, possible: Tensor
) -> dict[str, float]:
    """All edges in is the clean run, all out the corrupted run."""
    whole = faithfulness(packed, graph, question, possible)
    none = faithfulness(packed, graph, question, torch.zeros_like(possible))
    return {
        "full_patch": abs(whole - question.ends[0]),
        "identity_patch": abs(none - question.ends[1]),
    }
