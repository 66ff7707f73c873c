"""Figures of runs, scores and comparisons from small tables whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from tests.conftest import layout_of, traces
from workbench.figures import change, runs, scores

pytestmark = pytest.mark.quick


def logged(n: int = 10, *, start: float = 100.0) -> pd.DataFrame:
    """A loss at every step, a validation loss at every fifth; two seconds a step."""
    steps = np.arange(1, n + 1)
    loss = pd.DataFrame(
        {"step": steps, "name": "loss", "value": 1.0 / steps, "time": start + 2.0 * steps}
    )
    return pd.concat(
        [loss, loss[loss["step"] % 5 == 0].assign(name="validation_loss")], ignore_index=True
    )


def scored() -> pd.DataFrame:
    rows = [
        ("base", "intents", "acc", 0.2, 0.1, 0.35, 50, 0.25),
        ("tuned", "intents", "acc", 0.8, 0.7, 0.9, 50, 0.25),
        ("base", "passage", "bits_per_byte", 1.7, 1.6, 1.9, 10, np.nan),
        ("tuned", "passage", "bits_per_byte", 1.8, 1.7, 1.9, 10, np.nan),
    ]
    return pd.DataFrame(
        rows, columns=["model", "task", "metric", "value", "low", "high", "n", "chance"]
    )


def paired() -> pd.DataFrame:
    rows = [
        ("intents", "acc", 0.6, 0.5, 0.7, 0.001, 50, True),
        ("repeat", "acc", 0.05, -0.1, 0.2, 0.7, 50, True),
        ("passage", "bits_per_byte", 0.1, 0.05, 0.15, 0.01, 10, False),
    ]
    columns = ["task", "metric", "difference", "low", "high", "p_adjusted", "n", "higher_is_better"]
    return pd.DataFrame(rows, columns=columns)


def test_a_run_shows_its_training_and_its_validation_loss() -> None:
    figure = runs.curves({"mine": logged()})
    assert [trace.name for trace in traces(figure)] == ["training", "validation"]
    assert list(traces(figure)[1].x) == [5, 10]
    assert list(traces(figure)[1].y) == pytest.approx([0.2, 0.1])


def test_runs_on_one_axis_keep_their_names_and_one_colour_each() -> None:
    figure = runs.curves({"a": logged(), "b": logged(start=9e5)}, x="minutes")
    assert [trace.name for trace in traces(figure)] == [
        "a, training",
        "a, validation",
        "b, training",
        "b, validation",
    ]
    assert (
        traces(figure)[0].line.color == traces(figure)[1].line.color != traces(figure)[2].line.color
    )
    # Each from its own first step.
    assert list(traces(figure)[0].x) == pytest.approx(list(traces(figure)[2].x))


def test_against_tokens_a_run_of_unknown_batch_is_left_out() -> None:
    figure = runs.curves({"a": logged(), "b": logged()}, x="tokens", tokens_a_step={"a": 32})
    assert {trace.legendgroup for trace in traces(figure)} == {"a"}
    assert traces(figure)[0].x[-1] == 320


def test_a_long_line_is_averaged_and_not_cut() -> None:
    rows = logged(1000)
    line = runs.binned(rows[rows["name"] == "loss"], 100)
    assert len(line) == 100
    assert line["value"].mean() == pytest.approx((1 / np.arange(1, 1001)).mean())
    assert line["step"].iloc[0] == pytest.approx(5.5)


def test_a_run_that_logged_nothing_gives_an_empty_axis() -> None:
    assert len(traces(runs.curves({"mine": logged().iloc[:0]}))[0].x) == 0


def test_accuracies_share_a_panel_and_bits_have_their_own() -> None:
    figure = scores.dots(scored())
    dots = {(trace.name, trace.xaxis): trace for trace in traces(figure)}
    assert set(dots) == {(m, x) for m in ("base", "tuned") for x in ("x", "x2")} | {
        ("guessing", "x")
    }
    assert tuple(layout_of(figure).xaxis.range) == (-0.02, 1.02)
    assert layout_of(figure).xaxis2.title.text == "bits per byte"


def test_intervals_are_drawn_from_low_to_high() -> None:
    dot = next(t for t in traces(scores.dots(scored())) if t.name == "base" and t.xaxis == "x")
    assert dot.x[0] - dot.error_x.arrayminus[0] == pytest.approx(0.1)
    assert dot.x[0] + dot.error_x.array[0] == pytest.approx(0.35)


def test_a_difference_is_filled_only_where_its_interval_leaves_out_zero() -> None:
    figure = scores.differences(paired(), base="base", tuned="tuned")
    accuracy, bits = traces(figure)
    assert [colour == "white" for colour in accuracy.marker.color] == [False, True]
    assert [colour == "white" for colour in bits.marker.color] == [False]


def test_a_difference_says_which_side_is_better() -> None:
    layout = layout_of(scores.differences(paired(), base="base", tuned="tuned"))
    assert layout.xaxis.title.text.endswith("(tuned better →)")
    assert layout.xaxis2.title.text.endswith("(← tuned better)")
    assert layout.xaxis.range[0] == -layout.xaxis.range[1]


def test_the_head_map_puts_layer_zero_on_top_and_marks_the_chosen_head() -> None:
    mean = np.arange(6.0).reshape(2, 3) / 10
    figure = change.head_map(mean, mean - 0.05, mean + 0.05, n=8, chosen=(1, 2))
    heat, points = traces(figure)
    mark = layout_of(figure).shapes[0]
    assert heat.z[1][2] == 0.5
    assert points.customdata[5] == "L1H2" and (points.x[5], points.y[5]) == (2, 1)
    assert tuple(layout_of(figure).yaxis.range) == (1.5, -0.5)
    assert (mark.x0, mark.x1, mark.y0, mark.y1) == (1.5, 2.5, 0.5, 1.5)


def test_a_model_compared_with_itself_gives_a_blank_map() -> None:
    zero = np.zeros((2, 3))
    figure = change.head_map(zero, zero, zero, n=8)
    assert (traces(figure)[0].zmin, traces(figure)[0].zmax) == (0, change.FAINT)
