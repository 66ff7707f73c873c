"""Direct attribution adds up, the lens ends at the logits, and runs with masked edges equal the
model's own.
"""

import numpy as np
import pytest
import torch

from tests.conftest import subject_of
from tests.families import FAMILIES, make
from workbench.errors import WorkbenchError
from workbench.interp.circuits.audit import MATTERS, audit, exact_losses, minimality
from workbench.interp.circuits.edges import edge_effects, graph_of
from workbench.interp.circuits.question import faithfulness, question_of
from workbench.interp.circuits.search import circuit, edge_scores
from workbench.interp.engine.packed import engine
from workbench.interp.lenses.lens import lens
from workbench.interp.patching.direct import direct
from workbench.interp.prompts.pairs import pair
from workbench.statistics import largest_share
from workbench.subjects import load

CLEAN = "5 9 31 44 7 62 18 77 23"
CORRUPTED = "5 9 31 12 7 80 18 77 23"
PLAIN = [name for name in FAMILIES if not name.startswith("gemma")]


@pytest.mark.parametrize("family", FAMILIES)
def test_direct_contributions_add_up_to_the_logit_difference_and_the_lens_ends_at_the_logits(
    family,
):
    subject = subject_of(make(family), family)
    contributions = direct(subject, CLEAN, CORRUPTED, answer="7", wrong="8")
    assert contributions.checks["direct_sum"] < 1e-4 and contributions.checks["neuron_sum"] < 1e-4
    assert len(contributions.to_frame()) == 1 + 3 * 4 + 3
    seen = lens(subject, CLEAN)
    assert seen.checks["lens"] < 1e-4 and seen.kl[-1].max() < 1e-4 and (seen.rank[-1] == 0).all()
    assert len(seen.to_frame()) == 4 * 9


@pytest.mark.parametrize("family", PLAIN)
def test_masked_edges_give_both_runs_at_the_ends_and_single_edges_agree_with_path_patching(family):
    subject = subject_of(make(family), family)
    packed = engine(subject)
    question = question_of(packed, pair(subject, CLEAN, CORRUPTED, "7", "8"), "logit_difference")
    graph = graph_of(packed, question.run)
    possible = graph.possible()
    assert faithfulness(packed, graph, question, possible) == pytest.approx(
        question.ends[0], abs=1e-5
    )
    assert faithfulness(packed, graph, question, possible & False) == pytest.approx(
        question.ends[1], abs=1e-5
    )
    names = graph.receivers
    edges = [
        (names.index("L1H2.q"), 3),
        (names.index("L2H1.v"), 0),
        (names.index("MLP 1"), 2),
        (names.index("logits"), 9),
    ]
    edges.append((names.index("L1H0.k"), 5))
    with torch.no_grad():
        finals = edge_effects(
            packed, graph, question.run, question.corrupted - question.clean, edges
        )
        ours = question.metric.of(packed.logits(finals, question.metric.tokens))
    for edge, value in zip(edges, ours, strict=True):
        mask = possible.clone()
        mask[edge] = False
        assert float(value) == pytest.approx(faithfulness(packed, graph, question, mask), abs=2e-5)


def test_edge_scores_are_the_exact_effect_where_an_edge_goes_straight_to_the_answer():
    """Into the logits, only the final norm is not linear; with a small difference the gradient is
    exact.
    """
    subject = subject_of(make("llama"), "llama")
    packed = engine(subject)
    question = question_of(packed, pair(subject, CLEAN, CORRUPTED, "7", "8"), "logit_difference")
    graph = graph_of(packed, question.run)
    near = question.clean + 1e-4 * (question.corrupted - question.clean)
    from dataclasses import replace

    scores = edge_scores(packed, graph, replace(question, corrupted=near), steps=1)
    edges = [(r, s) for r, s in graph.possible().nonzero().tolist() if r % 5 == 0]
    with torch.no_grad():
        finals = edge_effects(packed, graph, question.run, near - question.clean, edges)
        lost = question.ends[0] - question.metric.of(packed.logits(finals, question.metric.tokens))
    ours = torch.stack([scores[edge] for edge in edges])
    assert np.corrcoef(ours, lost)[0, 1] > 0.999


def test_a_circuit_of_induction_is_faithful_and_better_than_chance():
    result = circuit(load("shelf-base"), "induction", n=3, steps=2, verify=5)
    assert max(result.checks.values()) < 1e-3
    best = next(size for size in result.curve if size.edges == result.chosen)
    assert best.faithfulness.value > 0.7 > best.random.value and result.n_edges > 100
    assert best.chosen_on.value > 0.8 and (best.chosen_on.n, best.faithfulness.n) == (3, 3) == (
        result.n,
        result.n_held_out,
    )
    assert len(result.edges) == result.chosen and sum(result.edges["exact"].notna()) == 5
    assert (
        result.audit is not None
        and result.audit.edges == 60
        and result.audit.most >= largest_share(0, 60)
    )
    assert (
        result.audit.outside == result.n_edges - result.chosen
        and sum(result.edges["needed"].notna()) == 5
    )
    assert result.heads and result.correlation == result.correlation


def test_edge_scores_are_the_same_where_gradients_are_switched_off_outside():
    subject = subject_of(make("llama"), "llama")
    packed = engine(subject)
    question = question_of(packed, pair(subject, CLEAN, CORRUPTED, "7", "8"), "logit_difference")
    graph = graph_of(packed, question.run)
    expected = edge_scores(packed, graph, question, steps=2)
    with torch.no_grad():
        assert torch.equal(edge_scores(packed, graph, question, steps=2), expected)
        assert not torch.is_grad_enabled()


def test_a_model_whose_parts_are_normed_once_more_is_refused_in_one_sentence():
    subject = subject_of(make("gemma2"), "gemma2")
    packed = engine(subject)
    with pytest.raises(WorkbenchError, match="write straight into the stream"):
        graph_of(packed, packed.record(subject.encode(CLEAN)))


def test_an_audit_of_all_edges_finds_every_one_that_matters_and_minimality_is_a_masked_run():
    subject = subject_of(make("llama"), "llama")
    packed = engine(subject)
    questions = [question_of(packed, pair(subject, CLEAN, CORRUPTED, "7", "8"), "logit_difference")]
    graph = graph_of(packed, questions[0].run)
    outside = torch.zeros_like(graph.possible())
    outside[-1] = True  # all edges into the logits
    edges = outside.nonzero().tolist()
    lost = exact_losses(packed, graph, questions, [tuple(e) for e in edges])[0]
    audited = audit(packed, graph, questions, outside, n=1000, seed=0)
    assert audited is not None and audited.edges == audited.outside == len(edges)
    assert audited.missed == (abs(lost) >= MATTERS).sum() and abs(audited.largest) == pytest.approx(
        abs(lost).max()
    )
    assert (
        audited.mean.value == pytest.approx(lost.mean())
        and audited.most >= audited.missed / audited.edges
    )
    inside = graph.possible()
    (one,) = minimality(packed, graph, questions, inside, [tuple(edges[3])])
    # Out of the whole graph, that is the edge's own effect.
    assert one.value == pytest.approx(lost[3], abs=1e-5)
    assert audit(packed, graph, questions, outside & False, n=5, seed=0) is None


def test_the_bound_on_a_share_is_the_rule_of_three_where_nothing_was_found():
    assert largest_share(0, 60) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert largest_share(5, 5) == 1 and 0.5 < largest_share(30, 60) < 0.65
