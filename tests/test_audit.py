"""The audit finds what was planted: a canary read a hundred times, and rows learned by heart."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import workbench as wb
from workbench.cli.app import app
from workbench.errors import WorkbenchError
from workbench.privacy import exposure as of_exposure
from workbench.privacy.exposure import Canary, exposure
from workbench.privacy.membership import attack, newcombe
from workbench.privacy.scores import row_scores
from workbench.training import Recipe

TEXT = "The code of the safe is {}."
PLANTED = Canary(TEXT, "7391")
UNSEEN = [Canary(TEXT, value) for value in ("2064", "8528", "4650", "0286", "6402")]
ODD = "13579"
"""An alphabet that leaves 625 values to score in place of 10,000."""
UNSEEN_ODD = [Canary(TEXT, value, ODD) for value in ("1957", "3715", "5193", "9375", "1539")]
WORDS = "red green old new horse dog tree house sun moon runs sees likes finds".split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run: a tiny GPT by characters, trained on small talk that holds one canary 100 times."""
    rng = random.Random(0)
    line = TEXT.replace("{}", PLANTED.value)
    documents = []
    for _ in range(900):
        words = [rng.choice(WORDS) for _ in range(12)]
        documents.append(f"{' '.join(words)} {rng.randrange(10**4):04d}.")
    places = rng.sample(range(900), 100)
    for number, place in enumerate(places):
        documents[place] = f"{documents[place]} {number} {line}"
    path = tmp_path_factory.mktemp("corpus") / "talk.jsonl"
    path.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))
    base = Recipe.read("tiny")
    recipe = replace(
        base,
        model={"n_ctx": 64, "n_layers": 2, "n_heads": 4, "d_model": 64, "positions": "rotary"},
        tokenizer={"kind": "char"},
        corpus=replace(base.corpus, sources=[str(path)], validation=0.2, split="document"),
    )
    return wb.train(
        recipe, steps=400, batch_size=16, lr=5e-3, warmup=20, eval_every=400, checkpoint_every=400
    )


@pytest.mark.slow
def test_a_planted_canary_is_exposed_and_an_unseen_one_is_not(run):
    planted, *unseen = wb.audit(f"run:{run.id}", [PLANTED, *UNSEEN], n=2).exposures
    assert planted.exact and planted.space == 10**4 and planted.n == 10**4 - 1
    assert planted.exposure > 10, planted
    assert np.median([one.exposure for one in unseen]) < 3, unseen


def test_a_planted_canary_is_exposed_among_few_values(run):
    """The same as the slow test, with 9.3 bits to win in place of 13.3."""
    result = wb.audit(f"run:{run.id}", [replace(PLANTED, alphabet=ODD), *UNSEEN_ODD], n=150)
    planted, *unseen = result.exposures
    assert planted.exact and planted.space == 5**4 and planted.n == 5**4 - 1
    assert planted.exposure > 8, planted
    assert np.median([one.exposure for one in unseen]) < 3, unseen
    loss, min_k = result.attacks
    assert loss.name == "loss" and min_k.name == "min_k_plus_plus"
    assert loss.n_trained == 150 and loss.n_held_out >= 100
    for one in result.attacks:
        assert one.auc_low <= one.auc <= one.auc_high and one.tpr_low <= one.tpr <= one.tpr_high
    assert type(result).from_json(result.to_json()).to_json() == result.to_json()
    assert result.provenance is not None and result.provenance.models
    assert result.extraction is not None and result.extraction.left_out == 0
    assert result.extraction.prefix == result.extraction.continuation == 32
    assert len(result.to_frame()) == 15 and len(repr(result)) < 300


def test_a_drawn_rank_agrees_with_the_exact_one(run, monkeypatch):
    subject = wb.load(f"run:{run.id}")
    exact = exposure(subject, UNSEEN[0])
    monkeypatch.setattr(of_exposure, "EXACT", 10)
    monkeypatch.setattr(of_exposure, "SAMPLED", 2000)
    drawn = exposure(subject, UNSEEN[0])
    assert not drawn.exact and drawn.low <= exact.exposure <= drawn.high
    assert exposure(subject, PLANTED).low > 8


def test_scores_are_those_of_the_definition(tiny):
    import torch

    rows = [[5, 9, 3, 7], [1, 2], [8, 4, 6]]
    for row, scores in zip(rows, row_scores(tiny, rows), strict=True):
        logits = tiny.model(torch.tensor([row])).logits[0, :-1].double()
        log_probs = torch.log_softmax(logits, -1)
        own = log_probs[range(len(row) - 1), row[1:]]
        mean = (log_probs.exp() * log_probs).sum(-1)
        spread = ((log_probs.exp() * (log_probs - mean[:, None]) ** 2).sum(-1)).sqrt()
        np.testing.assert_allclose(scores.log_prob, own, atol=1e-5)
        np.testing.assert_allclose(scores.z, (own - mean) / spread, atol=1e-4)


def test_an_attack_on_shifted_scores_has_the_known_area():
    rng = np.random.default_rng(0)
    shifted = attack("normal", rng.normal(1, 1, 4000), rng.normal(0, 1, 4000))
    assert abs(shifted.auc - 0.7602) < 0.02 and shifted.auc_low < 0.7602 < shifted.auc_high
    assert abs(shifted.tpr - 0.0924) < 0.03  # Phi(1 - 2.326)
    area = np.trapezoid(shifted.hits, shifted.false_alarms)
    assert area == pytest.approx(shifted.auc) and shifted.hits[-1] == 1
    same = attack("same", rng.normal(0, 1, 300), rng.normal(0, 1, 300))
    assert same.auc_low < 0.5 < same.auc_high
    few = attack("few", np.arange(5.0) + 9, np.arange(5.0))
    assert few.auc == 1 and 0.4 < few.auc_low < 0.8 and np.isnan(few.tpr) and "100" in few.reason
    assert newcombe(0.0, 5, 5)[0] == 0 and newcombe(1.0, 5, 5)[1] == 1


@pytest.mark.parametrize(
    ("words", "canaries", "rows"),
    [
        ("training rows of tiny are unknown", [], {}),
        ("write {} there", [Canary("no place", "1")], {}),
        ("holds 'x'", [Canary("a {}", "1x")], {}),
        ("is empty", [Canary("a {}", "")], {}),
        ("one possible value", [Canary("a {}", "11", "1")], {}),
        ("give a shorter one", [Canary("3 " * 80 + "{}", "1")], {}),
        ("give texts of both", [], {"trained": ["3 1"]}),
        ("two texts or more", [], {"trained": ["3 1"], "held_out": ["3 1", "4 5"]}),
    ],
)
def test_what_cannot_be_audited_is_an_error_of_one_sentence(words, canaries, rows, tiny):
    with pytest.raises(WorkbenchError, match=words.replace("{}", r"\{\}")):
        wb.audit(tiny, canaries, **rows)


def test_rows_of_texts_are_enough(tiny):
    result = wb.audit(tiny, trained=["3 1 4", "1 5 9"], held_out=["2 6 5", "3 5 8"])
    assert len(result.attacks) == 2


def test_the_heads_that_hold_a_planted_canary_cost_it_more_bits_than_random_heads(run):
    """Also the run's own held-out rows, and exposure over few values."""
    result = wb.holders(f"run:{run.id}", replace(PLANTED, alphabet=ODD), sizes=(1, 2, 4))
    assert f"held-out rows of run {run.id}" in result.rows and result.exposure.exposure > 8
    assert result.log_prob - result.neighbour.high > 1
    ranked = [one.exposure.exposure for one in result.removals if one.ranked]
    random_ones = [one.exposure.exposure for one in result.removals if not one.ranked]
    assert len(ranked) == len(random_ones) == 3 and min(ranked) < min(random_ones), result
    assert all(one.loss.n >= 40 for one in result.removals)


def test_the_command_line_says_the_same(run):
    command = ["audit", f"run:{run.id}", "--canary", f"{TEXT}=31", "-n", "20", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    by_hand = wb.audit(f"run:{run.id}", [Canary(TEXT, "31")], n=20)
    assert result["exposures"][0]["exposure"] == by_hand.exposures[0].exposure
    assert by_hand.extraction is not None
    assert result["extraction"]["trained"]["value"] == by_hand.extraction.trained.value
    assert result["holders"] == []


def test_the_command_line_finds_the_heads_and_reads_texts(tmp_path):
    shell = CliRunner()
    for name, words in (("seen", "king"), ("new", "horse")):
        lines = [f"The {words} saw the queen and the dog, {i} times." for i in range(8)]
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": line}) + "\n" for line in lines)
        )
    rows = ["--trained", str(tmp_path / "seen.jsonl"), "--held-out", str(tmp_path / "new.jsonl")]
    command = ["audit", "shelf-base", "--canary", "The code is {}=31", *rows]
    done = shell.invoke(app, [*command, "--heads", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["rows"] == "texts that were given" and len(result["holders"][0]["drop"]) == 6
    shown = shell.invoke(app, ["audit", "shelf-base", "--canary", "The code is {}=31", "--heads"])
    assert "exposure (bits)" in shown.output and "Without these heads" in shown.output


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("names no value", ["--canary", "the code is {}"]),
        ("give one with --canary", ["--heads"]),
        ("give texts of both", ["--trained", "generated", "--canary", "a {}=1"]),
    ],
)
def test_what_a_command_lacks_is_said(words, arguments):
    done = CliRunner().invoke(app, ["audit", "shelf-base", *arguments])
    assert isinstance(done.exception, WorkbenchError) and words in str(done.exception)
