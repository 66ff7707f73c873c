"""Training dynamics over the checkpoints of a real run."""

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.conftest import traces
from tests.test_training import recipe, text  # noqa: F401 (a fixture)
from workbench.comparison import Series, checkpoint_series, relatives
from workbench.comparison.dynamics import Dynamics, Point, dynamics
from workbench.comparison.lineage import lineage_pair, parent
from workbench.errors import WorkbenchError
from workbench.figures.dynamics import dynamics as draw
from workbench.interp.patterns.heads import head_scores
from workbench.subjects.intervention import Intervention


def test_every_kept_checkpoint_is_measured_and_drawn(text):  # noqa: F811
    run = wb.train(recipe(text, steps=16, eval_every=8, checkpoint_every=16, series=4))
    measured = dynamics(run.id, limit=6)
    frame = measured.to_frame()
    steps = sorted({p.step for p in measured.points})
    assert steps == [1, 3, 6, 16] and set(frame["measure"]) == {
        "validation_loss",
        "induction_score",
        "previous_token_score",
        "repeat",
    }
    last = next(p for p in measured.points if p.step == 16 and p.measure == "induction_score")
    assert (last.head, last.value) == head_scores(wb.load(f"run:{run.id}")).best()
    assert last.tokens == 16 * 8 * 32 and last.low <= last.value <= last.high
    figure = draw(frame, rise=measured.rise())
    assert len(traces(figure)) == 4 and traces(figure)[0].y[-1] == measured.losses[-1][1]
    with pytest.raises(
        WorkbenchError, match="has 1 checkpoints; a pretraining run with series = 12"
    ):
        dynamics(wb.train(recipe(text, steps=2, checkpoint_every=5)))


def test_the_rise_is_where_a_measure_gained_most():
    values = [(10, 0.0), (20, 0.1), (40, 0.7), (80, 0.75)]
    points = [Point(t, t, "induction_score", v, v, v, 8) for t, v in values]
    assert Dynamics("r", "t", "repeat", points, []).rise() == (20, 40)
    assert Dynamics("r", "t", "repeat", points[:1], []).rise() is None
    assert np.isnan(Dynamics("r", "t", "repeat", [], [(10, 2.0)]).to_frame()["low"]).all()


def test_every_head_and_layer_ends_where_the_last_checkpoint_is(text):  # noqa: F811
    run = wb.train(recipe(text, steps=8, eval_every=8, checkpoint_every=8, series=3))
    series = checkpoint_series(run.id, texts=["one two three four five six seven eight"])
    steps = list(run.checkpoints)
    for measure in ("kl", "heads", "stream", "weights"):
        values, places, order = series.grid(measure)
        assert order == steps and len(places) == len(values) and (values[:, -1] == 0).all()
        assert values[:, 0].max() > 0
    summary = series.summary()
    assert summary["subject"].tolist() == [f"run:{run.id}@{step}" for step in steps]
    assert (
        summary["kl"].iloc[-1]
        == summary["head_change"].iloc[-1]
        == summary["layer_change"].iloc[-1]
        == 0
    )
    heads = series.table.query("measure == 'heads' and order == @steps[0]").set_index("place")[
        "value"
    ]
    assert (summary["farthest_head"][0], summary["head_change"][0]) == (heads.idxmax(), heads.max())
    table = series.table.set_index(["measure", "order", "place"])["value"].to_dict()
    first, last = (wb.load(f"run:{run.id}@{step}") for step in (steps[0], steps[-1]))
    layer = [(n, p) for n, p in last.model.named_parameters() if n.startswith("model.layers.0.")]
    old = dict(first.model.named_parameters())
    update = sum(float((old[n] - p).double().square().sum()) for n, p in layer) ** 0.5
    size = sum(float(p.double().square().sum()) for _, p in layer) ** 0.5
    assert table["weights", steps[0], "0"] == pytest.approx(update / size)
    with pytest.raises(WorkbenchError, match="began from nothing"):
        checkpoint_series(run.id, against="base")


def test_half_way_is_the_first_step_from_which_on_it_stays_near():
    values = {
        "L0H0": [0.8, 0.3, 0.5, 0.2, 0.0],
        "L0H1": [0.6, 0.3, 0.2, 0.1, 0.0],
        "L1H0": [0.0] * 5,
    }
    rows = [
        {
            "subject": "",
            "order": 2**i,
            "measure": "heads",
            "place": place,
            "value": v,
            "low": v,
            "high": v,
            "n": 2,
        }
        for place, row in values.items()
        for i, v in enumerate(row)
    ]
    half = Series("end", pd.DataFrame(rows)).half_way().set_index("place")["at"].to_dict()
    assert half["L0H0"] == 8 and half["L0H1"] == 2 and np.isnan(half["L1H0"])


def test_lineage_is_read_from_cards_runs_and_edits_without_loading_a_model(text):  # noqa: F811
    run = wb.train(recipe(text, steps=4, eval_every=4, checkpoint_every=2, series=3))
    steps = list(run.checkpoints)
    others = {r.name: r.how for r in relatives(f"run:{run.id}")}
    assert others == {f"run:{run.id}@{step}": f"step {step} of its run" for step in steps[:-1]}
    child = wb.load("shelf-tuned").card.parent
    assert parent("shelf-tuned") == child and lineage_pair("shelf-tuned") == (child, "shelf-tuned")
    assert "shelf-tuned" in [r.name for r in relatives(child)]
    edit = Intervention("lineage-test", f"run:{run.id}", ()).save()
    assert parent(edit) == f"run:{run.id}" and edit in [r.name for r in relatives(f"run:{run.id}")]
    assert parent("./no-such-folder") == "" and relatives("./no-such-folder") == []


def test_a_bundled_models_training_was_measured_and_shows_induction_appear():
    """What ships is a record as measured: previous-token heads come first, then induction, with a
    bend of the loss.
    """
    for task in ("repeat", "agreement"):
        measured = dynamics("shelf-base", task=task)
        by = {
            m: {p.tokens: p for p in measured.points if p.measure == m}
            for m in ("induction_score", task)
        }
        assert len(by["induction_score"]) >= 12 and set(by["induction_score"]) == set(by[task])
        rise = measured.rise()
        assert rise is not None
        low, high = rise
        assert by["induction_score"][high].low > by["induction_score"][low].high + 0.3
    # The bundled weights are the last checkpoint, in half precision.
    scores = head_scores(wb.load("shelf-base"))
    last = by["induction_score"][max(by["induction_score"])]
    assert (last.head, pytest.approx(last.value, abs=0.01)) == scores.best()
    with pytest.raises(WorkbenchError, match="was measured on repeat, agreement"):
        dynamics("shelf-base", task="ioi")
