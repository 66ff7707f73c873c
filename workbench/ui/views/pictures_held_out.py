"""Below one picture's class: the accuracy on all held-out digits, beside other classifiers."""

import numpy as np
import pandas as pd
import streamlit as st

from workbench.data.digits import LEVELS
from workbench.figures import pictures as draw
from workbench.pictures.baselines import baselines
from workbench.pictures.likelihood import Classified, classify_pictures
from workbench.statistics import Estimate
from workbench.subjects import Subject
from workbench.ui.parts.charts import chart
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.models import alone
from workbench.ui.parts.progress import wanted, with_progress

WRONG = 20
"""Most misread digits that are shown."""


def held_out(subject: Subject) -> None:
    """Show accuracy and bits per pixel on all digits that no model trained on, once asked for."""
    st.subheader("All held-out digits")
    key = ("classified digits", subject.hash)
    cost = "Reads each of the held-out digits under each of the ten classes: a few seconds."
    if not wanted(key, cost, quick=False, button="Classify them all"):
        return
    result = with_progress(key, lambda report: _all(subject, report))
    _table(result)
    left, right = st.columns(2, gap="medium")
    assert result.labels is not None
    figure = draw.confusion(result.labels, result.predicted, title="Which digit is read as which")
    with left:
        chart(figure, key="confusion", name="confusion", alt="Which digit is read as which")
    with right:
        _misread(result)


def _all(subject: Subject, report) -> Classified:
    with alone(subject.hash):
        return classify_pictures(subject, progress=report)


def _table(result: Classified) -> None:
    """The model's accuracy beside that of classifiers, with paired differences."""
    assert result.accuracy is not None
    assert result.bits_per_pixel is not None
    baselines_table("this model, by likelihood", result.accuracy, result.predicted == result.labels)
    bits = result.bits_per_pixel
    st.caption(
        f"{result.n} digits that no model here trained on, by writers who wrote training digits "
        f"too. Under the true class they cost {bits.value:.3f} [{bits.low:.3f}, {bits.high:.3f}] "
        f"bits per pixel; a uniform choice of {LEVELS} levels costs {np.log2(LEVELS):.3f}. The "
        "classifiers were trained on the same images, with their classes as the target."
    )


def baselines_table(name: str, accuracy: Estimate, hits: np.ndarray) -> None:
    """A model's accuracy on the held-out digits beside that of classifiers, paired.

    Args:
        name: What the table calls the model.
        accuracy: Its accuracy.
        hits: Whether it names each digit.
    """
    right = hits.astype(float)
    rows = [_row(name, accuracy)]
    for baseline in baselines():
        difference = baseline.against(right)
        rows.append(
            {
                **_row(baseline.name, baseline.accuracy),
                "difference": difference.difference,
                "from": difference.low,
                "to": difference.high,
                "p": difference.p,
            }
        )
    columns = [
        Estimated("accuracy", "low", "high"),
        Estimated("difference", "from", "to", help="This model minus it, on the same digits."),
    ]
    estimates(pd.DataFrame(rows), columns)


def _row(name: str, accuracy) -> dict[str, object]:
    return {
        "classifier": name,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
    }


def _misread(result: Classified) -> None:
    """The digits that were read as another one."""
    assert result.labels is not None
    wrong = (result.predicted != result.labels).nonzero()[0][:WRONG]
    if not len(wrong):
        st.caption("None was misread.")
        return
    names = [f"{result.labels[i]} as {result.predicted[i]}" for i in wrong]
    figure = draw.gallery(result.images[wrong], names, title="Misread digits")
    chart(figure, key="misread", name="misread", alt="Digits that were read as another one")
