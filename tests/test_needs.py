"""The heads that a benchmark task needs: one at a time, by layers first in a deep model, and
greedily.
"""

import json

import pytest
from typer.testing import CliRunner

from workbench.benchmarks import evaluate, needs
from workbench.benchmarks.needs import task_needs
from workbench.cli.app import app
from workbench.errors import WorkbenchError
from workbench.interp import ablation
from workbench.subjects import load
from workbench.subjects.intervention import apply


def test_each_cut_is_the_ablated_model_s_own_evaluation_and_greedy_sets_grow():
    subject = load("shelf-base")
    result = task_needs(
        subject, "repeat", heads=[(0, 0), (1, 1), (2, 0)], limit=12, replacement="zero", greedy=2
    )
    assert result.tested == 3 and result.of == subject.card.n_layers * subject.card.n_heads
    losses = [cut.chosen_on.difference for cut in result.cuts]
    assert losses == sorted(losses) and result.intact.n == result.n == result.n_held_out == 6
    first = result.cuts[0]
    edited = apply(subject, ablation(subject, first.heads, replacement="zero"))
    by_hand = evaluate(edited, ["repeat"], limit=12, cache=False)
    judged = by_hand.samples.sort_values("doc_id")["score"].to_numpy()[1::2]
    assert first.score.tuned == pytest.approx(judged.mean())
    assert [len(cut.heads) for cut in result.greedy] == [1, 2]
    assert result.greedy[0].heads == first.heads and set(first.heads) < set(result.greedy[1].heads)
    assert list(result.to_frame()["heads"]) == [cut.name for cut in result.cuts]


def test_a_deep_model_is_looked_at_by_layers_first(monkeypatch):
    subject = load("shelf-base")
    monkeypatch.setattr(needs, "FEW", 1)
    monkeypatch.setattr(needs, "LAYERS", 1)
    result = task_needs(subject, "repeat", limit=6)
    assert len(result.layers) == subject.card.n_layers and result.tested == subject.card.n_heads
    assert {cut.heads[0][0] for cut in result.cuts} == {result.layers[0].heads[0][0]}


def test_a_task_without_choices_is_refused_in_one_sentence():
    with pytest.raises(WorkbenchError, match="no multiple-choice task"):
        task_needs(load("shelf-base"), "passage", limit=2)


def test_the_command_prints_what_the_api_gives():
    arguments = [
        "shelf-base",
        "repeat",
        "--task",
        "--heads",
        "L0H0,L1H1",
        "-n",
        "6",
        "--kind",
        "zero",
        "--json",
    ]
    result = CliRunner().invoke(app, ["needs", *arguments])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    api = task_needs(
        load("shelf-base"), "repeat", heads=[(0, 0), (1, 1)], limit=12, replacement="zero"
    )
    assert [row["margin"]["difference"] for row in printed["cuts"]] == [
        cut.margin.difference for cut in api.cuts
    ]
    assert printed["n"] == api.n == 6
