"""What the bundled model of English can do, measured anew."""

import pytest

import workbench as wb

LEAST = {"agreement": 0.85, "ioi": 0.8, "repeat": 0.55}
"""The lower ends of the intervals must be above these; `shelf-base` has .55, .46 and .62."""


@pytest.fixture(scope="module")
def measured():
    return wb.evaluate("shelf-english", "core")


@pytest.mark.parametrize("task", LEAST)
def test_it_does_what_it_was_trained_for(task, measured):
    rows = measured.to_frame().set_index("task")
    assert rows.loc[task, "n"] == 200
    assert rows.loc[task, "low"] > LEAST[task]
