"""The anatomy of attention: every step worked out by its formula equals the model's, in every
family.
"""

import numpy as np
import pytest

from tests.conftest import subject_of
from tests.families import FAMILIES, make
from workbench.errors import WorkbenchError
from workbench.interp.anatomy.decoder import anatomy

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_worked_out_by_its_formula_is_the_models(family):
    worked = anatomy(subject_of(make(family), family), "3 1 4 15 9 26 5", layer=1, head=2)
    checked = {s.name: s.deviation for s in worked.steps if s.deviation is not None}
    # float64, but for rotary tables, which models keep in float32.
    assert max(checked.values()) < 1e-5, checked
    must = {
        "Embedding",
        "Norm",
        "Query",
        "Key",
        "Value",
        "Scores",
        "Softmax",
        "Weighted sum",
        "Output projection",
    }
    assert must | {"MLP", "Layer output", "Logits"} <= checked.keys()


def test_the_steps_show_the_chosen_head_and_the_next_token(tiny):
    worked = anatomy(tiny, "3 1 4", layer=1, head=2)
    steps = {s.name: s for s in worked.steps}
    assert steps["Softmax"].values.shape == (3, 3) and steps["Query"].values.shape == (3, 8)
    np.testing.assert_allclose(steps["Softmax"].values.sum(-1), 1, atol=1e-6)
    assert np.isnan(steps["Mask"].values[0, 1:]).all()
    assert worked.next_tokens["probability"].is_monotonic_decreasing
    assert worked.deviation < 1e-5 and len(worked.to_frame()) == len(worked.steps)
    with pytest.raises(WorkbenchError, match="has no L2H0"):
        anatomy(tiny, "3", layer=2, head=0)


def test_every_number_of_every_step_is_in_the_table(tiny):
    worked = anatomy(tiny, "1 2 3", layer=1, head=0)
    table = worked.numbers()
    assert len(table) == sum(step.values.size for step in worked.steps)
    softmax = table[table["step"].str.endswith("Softmax")]
    sums = np.asarray(softmax.groupby("position")["value"].sum())
    assert sums.tolist() == pytest.approx([1, 1, 1])
    assert softmax["key"].tolist() == worked.tokens * 3
