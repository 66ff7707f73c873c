"""Fitting linear probes: standardised logistic regression, its strength by cross-validation, and
its code length.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int

STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Inverse L2 penalties that are tried (scikit-learn's C)."""
FOLDS = 3
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Shares of the readings after which the online code is learned anew."""
UNIFORM = 0.01
"""Share of the uniform distribution in the code, so that a class not yet seen can be sent."""

Values = Float[np.ndarray, "reading width"]
Classes = Int[np.ndarray, " reading"]


@dataclass(frozen=True)
class Fit:
    """A fitted probe: `right` on each held-out reading, the strength chosen, and weights in the
    activation's unit.
    """

    right: Float[np.ndarray, " reading"]
    strength: float
    weights: Float[np.ndarray, "class width"]


def regression(values: Values, classes: Classes, strength: float) -> Any:
    """A scikit-learn pipeline: standardise, then multinomial logistic regression with an L2
    penalty.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3))
    return found.fit(values, classes)


def choose_strength(values: Values, classes: Classes, group: Int[np.ndarray, " reading"]) -> float:
    """The strength with the best accuracy over folds that share no text."""
    from sklearn.model_selection import GroupKFold

    scores = np.zeros(len(STRENGTHS))
    for train, held in GroupKFold(min(FOLDS, len(np.unique(group)))).split(values, classes, group):
        if len(np.unique(classes[train])) > 1:
            for i, strength in enumerate(STRENGTHS):
                scores[i] += regression(values[train], classes[train], strength).score(
                    values[held], classes[held]
                )
    return STRENGTHS[int(scores.argmax())]


def fit(
    values: Values,
    classes: Classes,
    group: Int[np.ndarray, " reading"],
    held: np.ndarray,
    n_classes: int,
) -> Fit:
    """Fit on the readings outside `held` (a mask) and score those inside."""
    train = ~held
    if len(np.unique(classes[train])) < 2:
        only = classes[train][0]
        return Fit(
            (classes[held] == only).astype(float),
            STRENGTHS[0],
            np.zeros((n_classes, values.shape[1])),
        )
    strength = choose_strength(values[train], classes[train], group[train])
    found = regression(values[train], classes[train], strength)
    scaler, probe = found[0], found[-1]
    weights = np.zeros((n_classes, values.shape[1]))
    if len(probe.classes_) == 2:  # one row: of the second class
        weights[probe.classes_] = np.stack([-probe.coef_[0], probe.coef_[0]])
    else:
        weights[probe.classes_] = probe.coef_
    right = (found.predict(values[held]) == classes[held]).astype(float)
    return Fit(right, strength, weights / scaler.scale_)


def code_lengths(
    values: Values,
    classes: Classes,
    group: Int[np.ndarray, " reading"],
    n_classes: int,
    strength: float,
) -> Float[np.ndarray, " reading"]:
    """Bits that each label costs in the online code (Voita & Titov 2020, section 2.2).

    The labels are sent text by text: the first block uniformly, every later one with a probe
        trained on all before it.
    """
    bits = np.full(len(classes), np.log2(n_classes))
    order = np.unique(group, return_inverse=True)[1]
    texts = order.max() + 1
    ends = [max(1, round(texts * share)) for share in SHARES]
    for sent, upto in pairwise(ends):
        known, new = order < sent, (order >= sent) & (order < upto)
        if not new.any() or len(np.unique(classes[known])) < 2:
            continue
        found = regression(values[known], classes[known], strength)
        given = np.zeros((int(new.sum()), n_classes))
        given[:, found[-1].classes_] = found.predict_proba(values[new])
        mixed = (1 - UNIFORM) * given + UNIFORM / n_classes
        bits[new] = -np.log2(mixed[np.arange(len(mixed)), classes[new]])
    return bits
