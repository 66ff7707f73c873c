"""What is made of evaluations: clustered errors, calibration, boards, references, exports, tasks
about the inside.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from lm_eval import simple_evaluate
from numpy.testing import assert_equal

import workbench as wb
from tests.conftest import subject_of, tiny_gpt
from workbench.benchmarks import Results, TaskScore, compare_results, evaluate, metrics
from workbench.benchmarks.documents.sources import MissingDataError
from workbench.benchmarks.metrics import logit_difference, reading
from workbench.benchmarks.results.calibration import calibration
from workbench.benchmarks.results.export import harness_json, report
from workbench.benchmarks.results.leaderboard import leaderboard
from workbench.benchmarks.results.record import sample_frame
from workbench.benchmarks.results.references import references
from workbench.benchmarks.results.scores import rows_and_records
from workbench.benchmarks.tasks import FOLDER, load_tasks
from workbench.errors import WorkbenchError
from workbench.statistics import estimate_mean, paired_difference


@pytest.mark.quick
def test_copies_of_a_sample_add_no_evidence_when_they_are_one_cluster() -> None:
    once = [0.1, 0.4, 0.9, 0.3, 0.7, 0.5]
    alone = estimate_mean(once)
    copied = estimate_mean(np.repeat(once, 4), np.repeat(list("abcdef"), 4).tolist())
    assert copied.value == pytest.approx(alone.value) and copied.stderr == pytest.approx(
        alone.stderr
    )
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=1e-9)
    assert estimate_mean(np.repeat(once, 4)).stderr < alone.stderr / 1.9
    assert math.isnan(estimate_mean([1.0, 0.0], ["a", "a"]).stderr)


@pytest.mark.quick
def test_a_paired_difference_over_clusters_flips_whole_clusters() -> None:
    base = [0.0] * 8
    tuned = [1.0] * 8
    assert paired_difference(base, tuned).p < 0.01
    difference = paired_difference(base, tuned, clusters=list("aaaabbbb"))
    # Two clusters, four ways to flip them, two as extreme.
    assert difference.p == 0.5 and "clusters" in difference.test
    assert paired_difference(base, tuned, clusters=range(8)).test == "McNemar exact"


def choice(number: int, values: list[float], target: int) -> dict:
    prediction = values.index(max(values))
    text = {
        "input": "",
        "choices": "[]",
        "target_text": "",
        "prediction_text": "",
        "scores": "{}",
        "weight": 1.0,
    }
    sample = {
        "task": "t",
        "doc_id": number,
        "metric": "acc",
        "target": target,
        "prediction": prediction,
        **text,
    }
    right = float(prediction == target)
    return {**sample, "loglikelihoods": json.dumps(values), "correct": right, "score": right}


@pytest.mark.quick
def test_a_model_that_is_right_as_often_as_it_says_is_calibrated() -> None:
    sure = [math.log(0.75), math.log(0.25)]
    calibrated = sample_frame([choice(i, sure, int(i % 4 == 3)) for i in range(40)])
    curve = calibration(calibrated)
    assert curve.ece == pytest.approx(0) and curve.n == 40
    assert curve.bins.iloc[0][["confidence", "accuracy"]].tolist() == pytest.approx([0.75, 0.75])
    wrong = calibration(sample_frame([choice(i, sure, 1) for i in range(40)]), "t")
    assert (
        wrong.ece == pytest.approx(0.75)
        and wrong.p < 0.01
        and wrong.expected < wrong.expected_high < 0.2
    )
    with pytest.raises(WorkbenchError, match="no multiple-choice"):
        calibration(calibrated, "other")


def results(name: str, value: float, **changes) -> Results:
    row = TaskScore("piqa", "acc_norm", value, 0.05, value - 0.1, value + 0.1, 50, headline=True)
    config = {
        "limit": 50,
        "seed": 0,
        "num_fewshot": None,
        "suite_version": "1",
        "tasks": ["piqa"],
        "finished": ["piqa"],
        "data": {"piqa": "aa"},
        "task_versions": {"piqa": 1},
        "versions": {"lm-eval": "0.4"},
    }
    samples = sample_frame(
        [choice(i, [0.0, -1.0], int(i > value * 50)) | {"task": "piqa"} for i in range(50)]
    )
    return Results(name, name * 8, "mine", [row], samples, {**config, **changes})


def test_a_board_holds_only_what_is_comparable_and_each_model_once() -> None:
    boards = leaderboard(
        [
            ("3", results("a", 0.6)),
            ("2", results("a", 0.5)),
            ("1", results("b", 0.4)),
            ("0", results("c", 0.9, data={"piqa": "bb"})),
            ("x", results("d", 0.9, limit=10)),
            ("y", results("e", 0.9, finished=[])),
        ]
    )
    assert [sorted(name for name, _ in board.models) for board in boards] == [
        ["a", "b"],
        ["c"],
        ["d"],
    ]
    assert (
        boards[0].models["a", "a" * 8]["piqa"].value == 0.6 and boards[0].runs["a", "a" * 8] == "3"
    )
    assert boards[0].title.startswith("mine, version 1, 50 items a task, seed 0, data ")


def test_published_scores_stand_beside_ours_with_their_source_and_why_they_differ() -> None:
    table = references(results("SmolLM2-135M-Instruct.Q4_1", 0.65))
    assert list(table["published"]) == [0.663, 0.6692] and set(table["ours"]) == {0.65}
    assert table["source"].str.contains("huggingface.co").all()
    assert "quantised to Q4_1; 50 items a task" in table["why"].iloc[0]
    assert references(results("other", 0.65)).empty


def test_exports_are_what_lm_eval_writes_and_a_page_that_needs_no_network() -> None:
    base = results("a", 0.6)
    tuned = results("<b>", 0.4)
    record = json.loads(json.dumps(harness_json(base), allow_nan=False))
    assert record["results"]["piqa"]["acc_norm,none"] == 0.6
    assert record["results"]["piqa"]["acc_norm_stderr,none"] == 0.05
    page = report({"a": base, "<b>": tuned}, title="a against b")
    assert (
        "McNemar exact" in page and "&lt;b&gt;" in page and "<b>" not in page.split("</script>")[-1]
    )
    assert "src=" not in page.split("<body>")[0]
    assert f"workbench eval a &#x27;&lt;b&gt;&#x27; --suite {base.suite}" in page


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_scores_written_are_read_back(suffix: str, tmp_path: Path) -> None:
    written = {"a": results("a", 0.6), "b": results("b", 0.4)}
    table = wb.read_scores(wb.write_scores(written, tmp_path / f"scores{suffix}"))
    assert table["model"].tolist() == ["a", "b"] and set(table["task"]) == {"piqa"}
    assert table["value"].tolist() == [0.6, 0.4] and table["stderr"].tolist() == [0.05, 0.05]
    assert table["n"].tolist() == [50, 50] and set(table["metric"]) == {"acc_norm"}
    bounds = table[["low", "high"]].to_numpy()
    assert (
        np.isnan(bounds).all()
        if suffix == ".json"
        else np.allclose(bounds, [[0.5, 0.7], [0.3, 0.5]])
    )


def test_scores_of_lm_evals_own_writer_are_read(tmp_path: Path) -> None:
    """The record of lm-eval's `simple_evaluate` on a toy model and task of its own."""
    task = {
        "task": "toy",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "toy.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{c}}",
        "doc_to_target": "{{a}}",
    }
    docs = [{"q": "x", "c": [" a", " b"], "a": i % 2} for i in range(10)]
    (tmp_path / "toy.jsonl").write_text("\n".join(map(json.dumps, docs)))
    harness = cast("Any", simple_evaluate)  # a decorator hides its arguments from type checkers
    output = harness(model="dummy", tasks=[task], random_seed=0, bootstrap_iters=10)
    assert output is not None
    written = {
        key: value for key, value in output.items() if key in ("results", "n-samples", "config")
    }
    (tmp_path / "results.json").write_text(json.dumps(written, default=str))
    table = wb.read_scores(tmp_path / "results.json").set_index("metric")
    assert table.loc["acc", "value"] == output["results"]["toy"]["acc,none"]
    assert (
        table.loc["acc", "stderr"] == output["results"]["toy"]["acc_stderr,none"]
        and table.loc["acc", "n"] == 10
    )


def test_files_that_hold_no_scores_are_sentences(tmp_path: Path) -> None:
    for name, text in (
        ("a.json", "[1]"),
        ("b.json", "{"),
        ("c.csv", "x,y\n1,2\n"),
        ("d.parquet", "no"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(WorkbenchError, match=name):
            wb.read_scores(tmp_path / name)
    with pytest.raises(WorkbenchError, match="must end in one of"):
        wb.write_scores({}, tmp_path / "scores.txt")


def test_the_metrics_of_our_tasks_are_those_worked_by_hand() -> None:
    doc = {"gold": 1}
    assert logit_difference(doc, [(-3.0, False), (-1.0, True), (-2.5, False)]) == {
        "logit_difference": 1.5,
        "acc": 1.0,
    }
    scores = reading({"answers": ["the red house", "house"]}, ["A red barn."])
    assert scores == {"exact_match": 0.0, "f1": pytest.approx(0.5)}
    assert reading({"answers": ["The red house"]}, ["red house!"])["exact_match"] == 1.0


def test_no_task_glues_its_answer_to_the_last_word_of_its_question() -> None:
    questions = []
    for path in sorted(FOLDER.glob("*.yaml")):
        try:
            task = load_tasks(path.stem)[path.stem]
        except MissingDataError:
            continue
        if task.OUTPUT_TYPE in ("loglikelihood", "multiple_choice"):
            doc = next(iter(task.eval_docs))
            requests = task.construct_requests(
                doc=doc, ctx=task.fewshot_context(doc, 0), metadata=(path.stem, 0, 1)
            )
            questions.append(
                (path.stem, *(requests[0] if isinstance(requests, list) else requests).args[:2])
            )
    assert {"ioi", "repeat", "agreement", "intents"} <= {name for name, *_ in questions}
    assert not [
        name
        for name, context, answer in questions
        if context and " " not in context[-1] + answer[0]
    ]


def test_the_inside_suite_measures_heads_on_other_sequences_than_it_chose_them_on() -> None:
    inside = evaluate(
        subject_of(tiny_gpt()), ["induction_head", "previous_token_head"], limit=4, cache=False
    )
    assert [row.metric for row in inside.rows] == ["induction_score", "previous_token_score"]
    assert all(
        row.n == 4 and math.isnan(row.low) and "too few" in row.reason for row in inside.rows
    )
    assert "chosen on 4 other sequences" in inside.rows[0].note and len(inside.samples) == 8
    again = evaluate(subject_of(tiny_gpt()), "induction_head", limit=4, cache=False)
    assert_equal(asdict(again.rows[0]), asdict(inside.rows[0]))  # which takes NaN for equal to NaN
    assert again.config["data"].items() <= inside.config["data"].items()


def test_named_entities_are_scored_by_their_summed_counts() -> None:
    doc = {
        "words": ["Anna", "left", "Oslo", "and", "Bergen"],
        "tags": ["B-person", "O", "B-location", "O", "B-location"],
    }
    scores = metrics.entities(doc, [" Anna = person; Oslo = person; Paris = location"])
    # Paris is not in the text: invented, so wrong.
    assert scores == {
        "entity_f1": [1, 2, 2],
        "all_right": 0.0,
    }
    one = {"words": ["Anna", "slept"], "tags": ["B-person", "O"]}
    invented = metrics.entities(one, ["Anna = person; Kim = person; Oslo = location"])
    assert invented == {"entity_f1": [1, 2, 0], "all_right": 0.0}
    assert metrics.entity_f1([invented["entity_f1"]]) == pytest.approx(2 * (1 / 3) / (1 / 3 + 1))
    right = metrics.entities(doc, ["Anna = person; Oslo = location; Bergen = location"])
    assert right == {"entity_f1": [3, 0, 0], "all_right": 1.0}
    assert metrics.entity_f1([scores["entity_f1"], right["entity_f1"]]) == pytest.approx(
        2 * 4 / (2 * 4 + 2 + 2)
    )

    def logged(counts: list[list[int]]) -> list[dict]:
        one = {"filter": "none", "metrics": ["entity_f1", "all_right"], "doc": {}, "target": "none"}
        one |= {"arguments": [("Text: x", {})], "filtered_resps": ["none"], "all_right": 0.0}
        return [one | {"doc_id": i, "entity_f1": c} for i, c in enumerate(counts)]

    task = SimpleNamespace(
        aggregation=lambda: {"entity_f1": metrics.entity_f1, "all_right": mean},
        higher_is_better=lambda: {"entity_f1": True, "all_right": True},
    )
    runs = []
    # Without any of them, F1 is the same.
    alike = (
        [[1, 1, 2], [0, 0, 0]] * 10,
        [[2, 0, 1], [0, 0, 0]] * 10,
    )
    unlike = [[2, 1, 1], [0, 1, 3], [0, 0, 0]] * 10, [[3, 0, 0], [1, 0, 2], [0, 0, 0]] * 10
    for counts in (*alike, *unlike):
        rows, records = rows_and_records("wnut17", task, logged(counts))
        config = {"data": {"wnut17": "x"}}
        runs.append(Results("m", "0", "tasks", rows, sample_frame(records), config))
    for results in (runs[0], runs[2]):
        headline = next(row for row in results.rows if row.headline)
        assert (headline.metric, headline.value) == ("entity_f1", pytest.approx(0.4))
    assert list(runs[0].samples["score"][:2]) == pytest.approx([0.4, 1.0])
    assert list(runs[2].samples["score"][:3]) == pytest.approx([2 / 3, 0.0, 1.0])
    none, some = (compare_results(*pair).iloc[0] for pair in (runs[:2], runs[2:]))
    for compared in (none, some):
        assert (compared["base"], compared["tuned"]) == pytest.approx((0.4, 0.8))
    assert math.isnan(none["low"]) and math.isnan(none["high"]) and "too alike" in none["reason"]
    assert 0 < some["low"] < 0.4 < some["high"] and some["p"] < 0.05 and not some["reason"]


def test_an_interval_of_a_share_has_no_part_where_no_share_can_be() -> None:
    """Three items of f1 a little above 0 among many of 0: the corrected t interval alone would go
    below 0.
    """
    scores = [0.0] * 37 + [0.2, 0.3, 0.4]
    uncut = estimate_mean(scores)
    one = {"filter": "none", "metrics": ["f1"], "doc": {}, "target": "b", "filtered_resps": ["a"]}
    logged = [one | {"doc_id": i, "f1": x, "arguments": [("Q", {})]} for i, x in enumerate(scores)]
    task = SimpleNamespace(aggregation=lambda: {"f1": mean}, higher_is_better=lambda: {"f1": True})
    rows, _ = rows_and_records("squad", task, logged)
    assert uncut.low < 0 == rows[0].low and rows[0].high == uncut.high
