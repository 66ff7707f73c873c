"""Fitting linear probes: logistic regression, cross-validated strength, and code length."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int

STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Inverse L2 penalties that are tried (scikit-learn's C)."""
FOLDS = 3
"""Folds of the cross-validation."""
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Shares of the readings after which the online code is trained anew."""
UNIFORM = 0.01
"""Share of the uniform distribution in the code, so that a class not yet seen can be sent."""

Values = Float[np.ndarray, "reading width"]
Classes = Int[np.ndarray, " reading"]


@dataclass(frozen=True)
class Fit:
    """A fitted linear probe.

    - `right`: 1 for each held-out reading that is right, else 0
    - `strength`: the inverse L2 penalty that was chosen
    - `weights`: in the activation's unit
    """

    right: Float[np.ndarray, " reading"]
    strength: float
    weights: Float[np.ndarray, "class width"]


def regression(values: Values, classes: Classes, strength: float) -> Any:
    """A fitted scikit-learn pipeline: standardise, then multinomial logistic regression.

    Args:
        values: The readings.
        classes: The class of each.
        strength: Inverse of the L2 penalty.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logistic = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
    return make_pipeline(StandardScaler(), logistic).fit(values, classes)


def choose_strength(values: Values, classes: Classes, group: Int[np.ndarray, " reading"]) -> float:
    """The strength with the best cross-validated accuracy.

    Args:
        values: The readings.
        classes: The class of each.
        group: The text of each; folds share no text.
    """
    from sklearn.model_selection import GroupKFold

    scores = np.zeros(len(STRENGTHS))
    for train, held in GroupKFold(min(FOLDS, len(np.unique(group)))).split(values, classes, group):
        if len(np.unique(classes[train])) > 1:
            for i, strength in enumerate(STRENGTHS):
                fitted = regression(values[train], classes[train], strength)
                scores[i] += fitted.score(values[held], classes[held])
    return STRENGTHS[int(scores.argmax())]


def fit(
    values: Values,
    classes: Classes,
    group: Int[np.ndarray, " reading"],
    held: np.ndarray,
    n_classes: int,
) -> Fit:
    """A linear probe fitted on the readings outside `held` and scored on those inside.

    Args:
        values: The readings.
        classes: The class of each.
        group: The text of each.
        held: Mask of the held-out readings.
        n_classes: How many classes there are.
    """
    train = ~held
    if len(np.unique(classes[train])) < 2:
        only = classes[train][0]
        right = (classes[held] == only).astype(float)
        return Fit(right, STRENGTHS[0], np.zeros((n_classes, values.shape[1])))
    strength = choose_strength(values[train], classes[train], group[train])
    pipeline = regression(values[train], classes[train], strength)
    scaler = pipeline[0]
    logistic = pipeline[-1]
    weights = np.zeros((n_classes, values.shape[1]))
    if len(logistic.classes_) == 2:  # scikit-learn gives one row, of the second class
        weights[logistic.classes_] = np.stack([-logistic.coef_[0], logistic.coef_[0]])
    else:
        weights[logistic.classes_] = logistic.coef_
    right = (pipeline.predict(values[held]) == classes[held]).astype(float)
    return Fit(right, strength, weights / scaler.scale_)


def code_lengths(
    values: Values,
    classes: Classes,
    group: Int[np.ndarray, " reading"],
    n_classes: int,
    strength: float,
) -> Float[np.ndarray, " reading"]:
    """Bits that each label costs in the online code.

    The labels are sent text by text: the first block uniformly, every later one with a linear probe
    trained on all before it.

    Args:
        values: The readings.
        classes: The class of each.
        group: The text of each.
        n_classes: How many classes there are.
        strength: Inverse of the L2 penalty.

    Reference:
        Voita & Titov 2020, arXiv:2003.12298, section 2.2.
    """
    bits = np.full(len(classes), np.log2(n_classes))
    order = np.unique(group, return_inverse=True)[1]
    texts = order.max() + 1
    ends = [max(1, round(texts * share)) for share in SHARES]
    for sent, upto in pairwise(ends):
        known = order < sent
        new = (order >= sent) & (order < upto)
        if not new.any() or len(np.unique(classes[known])) < 2:
            continue
        pipeline = regression(values[known], classes[known], strength)
        predicted = np.zeros((int(new.sum()), n_classes))
        predicted[:, pipeline[-1].classes_] = pipeline.predict_proba(values[new])
        mixed = (1 - UNIFORM) * predicted + UNIFORM / n_classes
        bits[new] = -np.log2(mixed[np.arange(len(mixed)), classes[new]])
    return bits
