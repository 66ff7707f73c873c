"""`bench --compare`: what is called slower differs by more than both documents' noise."""

import json
import time
from typing import Any, cast

import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.figures.growth import growth as draw
from workbench.speed import growth
from workbench.speed import run as speed
from workbench.speed.compare import UNKNOWN, compared, read
from workbench.speed.timing import in_turn


def document(bench="a", **ratios):
    """A document with these ratios by case; a pair gives ratio and spread."""
    rows = []
    for case, value in ratios.items():
        ratio, spread = value if isinstance(value, tuple) else (value, None)
        rows.append({"case": case, "ratio": ratio, "spread": spread})
    return {"bench": bench, "rows": rows}


def verdicts(old, new):
    return {row["case"]: row["verdict"] for row in compared(old, new)}


def test_changes_within_the_noise_of_both_are_none():
    old = document(quiet=(2.0, 0.03), noisy=(2.0, 0.3), once=2.0, left=1.0)
    new = document(quiet=(1.91, 0.04), noisy=(1.5, 0.4), once=2.0 * (1 - UNKNOWN), come=1.0)
    assert verdicts(old, new) == {
        "a: quiet": "same",  # 4.5 % of change, 5 % of noise: hypot(3 %, 4 %)
        "a: noisy": "same",
        "a: once": "same",
        "a: come": "new",
        "a: left": "gone",
    }
    new = document(quiet=(1.88, 0.04), noisy=(0.9, 0.4), once=3.0)
    assert verdicts(old, new) == {
        "a: quiet": "slower",
        "a: noisy": "slower",
        "a: once": "faster",
        "a: left": "gone",
    }


def test_the_change_is_that_of_the_ratio_and_other_benches_are_left_out():
    old = {"bench": "all", "rows": [{"bench": "a", "case": "x", "ratio": 4.0, "spread": 0.1}]}
    old["rows"].append({"bench": "b", "case": "x", "ratio": 1.0, "spread": 0.1})
    [row] = compared(old, document(x=(3.0, 0.1)))
    assert row["change"] == pytest.approx(-0.25) and row["verdict"] == "slower"
    assert row["noise"] == pytest.approx(0.02**0.5)


def test_a_ratio_that_is_not_known_is_not_compared():
    old = {"bench": "a", "rows": [{"case": "x", "ratio": None}, {"case": "y", "ratio": 0}, {}]}
    assert compared(old, old) == []


def test_the_spread_is_the_range_of_single_ratios():
    naps = iter([0.02, 0.04, 0.02, 0.06, 0.02, 0.08])  # ratios of 2, 3 and 4
    _, _, row = in_turn(lambda: time.sleep(next(naps)), lambda: time.sleep(next(naps)))
    assert row["ratio"] == pytest.approx(3, rel=0.2)
    assert row["spread"] == pytest.approx(2 / 3, rel=0.4)


def test_all_benches_in_one_document_and_slower_ones_end_with_code_one(run, tmp_path, monkeypatch):
    def nap(progress):
        _, _, row = in_turn(lambda: time.sleep(0.02), lambda: time.sleep(0.02))
        return [{"case": "nap", **row}]

    monkeypatch.setattr(speed, "BENCHES", {"a": nap, "b": nap})
    result = run("bench", "all", "--json")
    whole = json.loads(result.stdout)
    assert [row["bench"] for row in whole["rows"]] == ["a", "b"]
    file = tmp_path / "old.json"
    whole["rows"][1]["ratio"] *= 9
    file.write_text(json.dumps(whole))
    result = run("bench", "all", "--compare", str(file))
    assert result.returncode == 1 and "Slower than before: b: nap." in result.stderr
    whole["rows"][1]["ratio"] /= 90
    file.write_text(json.dumps(whole))
    assert run("bench", "b", "--compare", str(file)).returncode == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), ("[]", "no benchmark rows"), ('{"rows": [1]}', "no benchmark rows")],
)
def test_what_is_no_document_is_refused_before_anything_runs(text, words, tmp_path):
    file = tmp_path / "old.json"
    file.write_text(text)
    with pytest.raises(WorkbenchError, match=words):
        read(file)
    with pytest.raises(WorkbenchError, match="cannot be read"):
        read(tmp_path / "none.json")


@pytest.mark.quick
def test_the_growth_bench_measures_every_axis_and_draws_it(monkeypatch):
    """On small sizes; that pairs together equal pairs alone is part of the bench."""
    monkeypatch.setattr(growth, "TOKENS", (4, 8))
    monkeypatch.setattr(growth, "LAYERS", (1, 2))
    monkeypatch.setattr(growth, "WIDTHS", (32, 64))
    monkeypatch.setattr(growth, "PAIRS", (1, 3))
    rows = pd.DataFrame(growth.bench(lambda words: None, n=1))
    assert rows.groupby("axis").size().to_dict() == dict.fromkeys(
        ("tokens", "layers", "width", "pairs"), 2
    )
    assert min(rows["over_floor"].tolist()) > 1
    assert max(rows["max_abs_diff"].dropna().tolist()) < 1e-4
    figure = draw(rows)
    names = {trace.name for trace in cast(Any, figure).data}
    assert names == {"measured", "one pair after the other", "its arithmetic alone"}
    assert len(cast(Any, figure).data) == 9
