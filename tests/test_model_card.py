"""Model cards: Hugging Face reads them, and every figure is that of the run and its evaluations."""

import json
from typing import Any

import pytest
from huggingface_hub import ModelCard

import workbench as wb
from tests.conftest import subject_of, tiny_gpt
from tests.test_training import recipe
from workbench.benchmarks.run import run_job
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.subjects.card import make_card
from workbench.subjects.model_card import Score, Training, front, stated_watts, written

SENTENCES = [f"The cat number {i} sat on mat number {i + 1} by the door." for i in range(400)]


def data_of(text: str) -> Any:
    """The YAML header as huggingface_hub reads it; its attributes are made as it runs."""
    return ModelCard(text).data


@pytest.fixture(scope="module")
def run(home, tmp_path_factory):
    """A finished run of a tiny model, and its evaluation in the store."""
    path = tmp_path_factory.mktemp("corpus") / "cats.txt"
    path.write_text("\n\n".join(SENTENCES))
    run = wb.train(recipe(path, steps=4))
    store = Store()
    with store.record("eval", "a test", {"models": [f"run:{run.id}"], "suite": "repeat"}) as one:
        one.result = run_job({"models": [f"run:{run.id}"], "suite": "repeat", "limit": 8}, one)
    return Store().get(run.id)


def test_a_finished_run_has_a_card_that_hugging_face_reads(run):
    text = (run.folder / "README.md").read_text(encoding="utf-8")
    data = data_of(text)
    assert data.library_name == "transformers"
    assert data.eval_results[0].metric_value == pytest.approx(run.result["validation_loss"])
    assert run.result["data_hash"] in text and "cats.txt" in text and run.id in text
    kwh = run.result["seconds"] * 65 / 3.6e6
    assert f"About {kwh:.3g} kWh, an estimate" in text
    for heading in ("Intended use", "Data", "Scores", "Energy", "Limits"):
        assert f"\n## {heading}\n" in text


def test_a_card_has_the_scores_of_the_store_with_their_intervals(run):
    text = wb.model_card(f"run:{run.id}", watts=100)
    results = next(one for one in Store().list("eval") if one.title == "a test").result or {}
    row = next(iter(results["models"].values()))["rows"][0]
    known = {(one.dataset_name, one.metric_type): one for one in data_of(text).eval_results}
    assert known["repeat", row["metric"]].metric_value == pytest.approx(row["value"])
    assert f"[{row['low']:.3f}, {row['high']:.3f}]" in text and "| 8 | suite repeat" in text
    kwh = run.result["seconds"] * 100 / 3.6e6
    assert f"About {kwh:.3g} kWh" in text and "x 100 W stated" in text


def test_an_export_carries_the_same_card(run, tmp_path):
    from workbench.subjects.export import export

    subject = wb.load(f"run:{run.id}")
    folder = export(subject, tmp_path / "out", form="workbench")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == wb.model_card(subject) and "import workbench" in text


def test_the_command_prints_and_writes_it(run, tmp_path, capsys):
    from workbench.cli.house import card

    card(f"run:{run.id}", target=tmp_path / "README.md", watts=10.0, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["card"] == (tmp_path / "README.md").read_text(encoding="utf-8")


def test_what_is_not_known_is_said():
    subject = subject_of(tiny_gpt(), "tiny")
    text = wb.model_card(subject)
    assert "None were measured." in text and "was not measured here" in text
    assert "Stereotypes were not measured" in text and "Not stated." in text
    assert data_of(text).eval_results is None


def test_scores_and_licences_of_every_kind_are_written():
    model = tiny_gpt()
    stated = {"licence": "Our own; see there", "parent": "someone/base", "notes": "A note."}
    card = make_card(model, "named", "a test", "0" * 64, stated)
    scores = [
        Score("crows_pairs", "pct_stereotype", 0.5, 0.4, 0.6, 100),
        Score("bbq", "bias_ambiguous", float("nan")),
    ]
    text = written(card, "transformers", Training(seconds=3600.0, processes=2), scores, 50.0)
    data = data_of(text)
    assert (data.license, data.license_name, data.base_model) == (
        "other",
        "our own",
        "someone/base",
    )
    assert [one.metric_value for one in data.eval_results] == [0.5]  # NaN is no score in YAML
    assert "About 0.1 kWh" in text and "2 processes" in text and "see the scores" in text
    assert "license: mit" in front(make_card(model, "n", "s", "0", {"licence": "MIT; x"}), [])


@pytest.mark.parametrize("watts", [0.0, -1.0, float("nan"), float("inf")])
def test_a_power_that_is_none_is_refused(watts):
    with pytest.raises(WorkbenchError, match="give a number above 0, in watts"):
        stated_watts(watts)


def test_a_power_that_cannot_be_read_costs_no_run(home, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_WATTS", "a lot")
    path = tmp_path / "cats.txt"
    path.write_text("\n\n".join(SENTENCES))
    run = wb.train(recipe(path, steps=2))
    assert run.status == "done" and run.result is not None
    assert "No model card was written: The power is 'a lot' W" in str(run.result["remarks"])
