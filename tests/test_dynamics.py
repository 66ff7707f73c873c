"""Training dynamics over the checkpoints of a real run."""

import numpy as np
import pytest

import workbench as wb
from tests.test_training import recipe, text  # noqa: F401 (a fixture)
from workbench.comparison.dynamics import Dynamics, Point, dynamics
from workbench.errors import WorkbenchError
from workbench.figures.dynamics import dynamics as draw
from workbench.interp.heads import head_scores


def test_every_kept_checkpoint_is_measured_and_drawn(text):  # noqa: F811
    run = wb.train(recipe(text, steps=16, eval_every=8, checkpoint_every=16, series=4))
    found = dynamics(run.id, limit=6)
    frame = found.to_frame()
    steps = sorted({p.step for p in found.points})
    assert steps == [1, 3, 6, 16] and set(frame["measure"]) == {
        "validation_loss",
        "induction_score",
        "previous_token_score",
        "repeat",
    }
    last = next(p for p in found.points if p.step == 16 and p.measure == "induction_score")
    assert (last.head, last.value) == head_scores(wb.load(f"run:{run.id}")).best()
    assert last.tokens == 16 * 8 * 32 and last.low <= last.value <= last.high
    figure = draw(frame, rise=found.rise())
    assert len(figure.data) == 4 and figure.data[0].y[-1] == found.losses[-1][1]
    with pytest.raises(WorkbenchError, match="has 1 checkpoints; a pretraining run with series = 12"):
        dynamics(wb.train(recipe(text, steps=2, checkpoint_every=5)))


def test_the_rise_is_where_a_measure_gained_most():
    values = [(10, 0.0), (20, 0.1), (40, 0.7), (80, 0.75)]
    points = [Point(t, t, "induction_score", v, v, v, 8) for t, v in values]
    assert Dynamics("r", "t", "repeat", points, []).rise() == (20, 40)
    assert Dynamics("r", "t", "repeat", points[:1], []).rise() is None
    assert np.isnan(Dynamics("r", "t", "repeat", [], [(10, 2.0)]).to_frame()["low"]).all()
