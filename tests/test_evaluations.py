"""What the pages say about runs and results, from numbers whose words are known."""

import json
import math
from types import SimpleNamespace

import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.statistics.records import few
from workbench.training import Recipe
from workbench.ui.parts import words
from workbench.ui.parts.links import carried
from workbench.ui.parts.words import signed
from workbench.ui.views import benchmarks_samples
from workbench.ui.views.benchmarks import score_table, spread, verdict
from workbench.ui.views.benchmarks_pairs import pair
from workbench.ui.views.train import checked


def row(low: float, high: float, *, p: float = 0.001, higher: bool = True) -> SimpleNamespace:
    middle = (low + high) / 2
    numbers = {
        "difference": middle,
        "low": low,
        "high": high,
        "p_adjusted": p,
        "n": 50,
        "reason": "",
    }
    return SimpleNamespace(task="intents", metric="acc", higher_is_better=higher, **numbers)


def test_an_interval_about_zero_is_no_difference() -> None:
    assert "no significant difference" in verdict(row(-0.1, 0.2), "base", "tuned", 5)


def test_an_interval_above_zero_names_the_winner() -> None:
    sentence = verdict(row(0.2, 0.4), "base", "tuned", 5)
    assert "**tuned** is better than base by 0.300 (95 % interval [0.200, 0.400]" in sentence


def test_where_less_is_better_the_other_one_wins() -> None:
    sentence = "**base** is better than tuned by 0.300 (95 % interval [0.200, 0.400]"
    assert sentence in verdict(row(0.2, 0.4, higher=False), "base", "tuned", 5)
    assert sentence in verdict(row(-0.4, -0.2), "base", "tuned", 5)


def test_a_difference_that_the_correction_takes_away_is_a_hint() -> None:
    assert "a hint, not a finding" in verdict(row(0.01, 0.4, p=0.08), "base", "tuned", 5)


def test_one_sample_gives_no_interval() -> None:
    lone = row(math.nan, math.nan)
    lone.difference = 1.0
    lone.n = 1
    lone.reason = few(1)
    assert (
        verdict(lone, "base", "tuned", 5)
        == f"**intents** (acc): {signed(1.0)}, no interval: {few(1)}."
    )


def test_a_table_has_a_row_a_task_and_a_column_a_model() -> None:
    columns = [
        "model",
        "task",
        "metric",
        "value",
        "low",
        "high",
        "n",
        "n_unscored",
        "chance",
        "higher_is_better",
    ]
    rows = [
        ("a", "ioi", "acc", 0.5, 0.3, 0.7, 20, 1, 0.5, True),
        ("b", "ioi", "acc", 0.7, math.nan, math.nan, 19, 2, 0.5, True),
    ]
    shown = score_table(pd.DataFrame(rows, columns=columns)).iloc[0]
    assert (shown["a"], shown["b"]) == ("0.500 [0.300, 0.700]", "0.700")
    assert (shown["n"], shown["Unscored"], shown["Guessing"]) == ("20 / 19", 3, "0.500")


def test_samples_are_sorted_by_who_was_right() -> None:
    table = pd.DataFrame({"correct a": [1.0, 1.0, 0.0], "correct b": [1.0, 0.0, 0.0]})
    masks = benchmarks_samples.filters(table, ["a", "b"], "a", "b")
    counts = {words: int(mask.sum()) for words, mask in masks.items()}
    assert counts == {
        "all": 3,
        "only a right": 1,
        "only b right": 0,
        "both wrong": 1,
        "both right": 1,
    }


def sample_row(number: int, prompt: str, choices: list[str], target: int) -> dict:
    question = {"doc_id": number, "input": prompt, "choices": json.dumps(choices), "target": target}
    taken = {"prediction a": 1 - target, "loglikelihoods a": "[-1.0, -2.0]"}
    return {**question, "target_text": choices[target], **taken}


def test_a_sample_becomes_a_prompt_pair_whose_answer_is_another() -> None:
    rows = [
        sample_row(0, "When Anna and Peter met, Peter gave a key to", [" Anna", " Peter"], 0),
        sample_row(1, "The nurse near the boats", [" is", " are"], 0),
        sample_row(2, "The nurses near the boats", [" is", " are"], 1),
        sample_row(3, "A pilot waits there now", [" is", " are"], 1),
        sample_row(4, "", ["One sentence.", "Another."], 1),
    ]
    table = pd.DataFrame(rows)
    swapped = pair(table.iloc[0], table, ["a"])
    assert swapped and swapped["corrupted"] == "When Peter and Anna met, Anna gave a key to"
    assert (swapped["answer"], swapped["wrong"]) == (" Anna", " Peter")
    neighbour = pair(table.iloc[1], table, ["a"])
    assert neighbour and neighbour["corrupted"] == "The nurses near the boats"
    assert pair(table.iloc[4], table, ["a"]) is None


def test_the_spread_over_ways_of_asking_is_the_least_and_the_most() -> None:
    rows = [
        ("m", "ioi", "acc", 0.5),
        ("m", "ioi@shots=2", "acc", 0.7),
        ("m", "passage", "acc", 0.1),
    ]
    table = spread(pd.DataFrame(rows, columns=["model", "task", "metric", "value"]))
    assert len(table) == 1 and tuple(
        table.iloc[0][["Default prompt", "Lowest", "Highest", "Prompts"]]
    ) == (
        0.5,
        0.5,
        0.7,
        2,
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (200, "3 min 20 s"),
        (1200, "20 min"),
        (7500, "2 h 5 min"),
        (400_000, "4 days"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float, expected: str) -> None:
    assert words.duration(seconds) == expected


def test_paths_are_called_by_their_last_part_unless_two_share_it() -> None:
    assert words.short_names(["/a/base", "org/model"]) == {
        "/a/base": "base",
        "org/model": "org/model",
    }
    assert words.short_names(["/a/base", "/b/base"]) == {"/a/base": "/a/base", "/b/base": "/b/base"}


def test_a_p_value_is_printed_as_in_a_paper() -> None:
    assert [words.p_text(p) for p in (0.0001, 0.036, 0.5)] == ["p < 0.001", "p = 0.036", "p = 0.5"]


def test_text_of_a_model_is_not_read_as_markdown() -> None:
    assert words.escaped("*a* [b]") == r"\*a\* \[b\]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"steps": 0}}, "steps is 0"),
        ({"train": {"batch_size": "x"}}, "batch_size is 'x'"),
        ({"corpus": {"sources": []}}, "corpus is empty"),
        ({"title": " "}, "needs a title"),
        ({"model": {"positions": "spiral"}}, "positions is 'spiral'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_before_it_starts(
    changes: dict, message: str
) -> None:
    with pytest.raises(WorkbenchError, match=message):
        checked(Recipe.from_dict({"title": "x", "corpus": {"sources": ["generated"]}, **changes}))


def test_of_a_link_only_what_its_page_can_read_is_taken() -> None:
    good = {"model": "shelf-base", "models": ["a", "b"], "measure": "true"}
    assert carried(json.dumps(good)) == good
    assert carried(json.dumps({"prompt": ["a"], "models": "a", "theme": "dark", "head": 3})) == {}
    assert carried("{") == carried("[1]") == {}
