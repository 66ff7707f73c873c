"""Calibration on multiple choice: are 70 % of the answers right that a model gives 70 %?"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.statistics import blaker

if TYPE_CHECKING:
    import pandas as pd

BINS = 10
RESAMPLES = 1000


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error (ECE), with what a perfectly calibrated model would get.

    Attributes:
        ece: The error; biased upwards where samples are few, so it has no interval.
        expected: Mean ECE of a perfectly calibrated model with these confidences, by simulation.
        expected_high: 95 % quantile of the same.
        p: How often such a model has an ECE at least as large as this one.
        n: Samples.
        bins: One row for every bin that has samples: `confidence` and `accuracy` (means), `low`
            and `high` (95 % interval of the accuracy, Blaker), `n`.
    """

    ece: float
    expected: float
    expected_high: float
    p: float
    n: int
    bins: "pd.DataFrame"


def calibration(samples: "pd.DataFrame", task: str | None = None) -> Calibration:
    """Calibration of a model's choices: ECE with ten bins of equal width.

    The confidence is the chosen answer's share in the softmax of the choices' log-likelihoods (not
    divided by length). ECE is biased upwards where samples are few: `expected` says by how much.

    Args:
        samples: `Results.samples`.
        task: Only samples of this task; None for all multiple-choice samples together.

    Raises:
        WorkbenchError: no sample is multiple choice with a known answer.

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    import pandas as pd

    confidence, right = _choices(samples if task is None else samples[samples["task"] == task])
    if not len(right):
        raise WorkbenchError(
            f"{task or 'The evaluation'} has no multiple-choice samples whose answer is known."
        )
    rows: list[dict[str, Any]] = []
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for number in np.unique(which):
        inside = which == number
        interval = blaker(int(right[inside].sum()), int(inside.sum()))
        rows.append(
            {
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(right[inside].mean()),
                "low": float(interval[0]),
                "high": float(interval[1]),
                "n": int(inside.sum()),
            }
        )
    rng = np.random.default_rng(0)
    count = len(right)
    ece = _ece(which, confidence, right)
    by_chance = np.array(
        [_ece(which, confidence, u < confidence) for u in rng.random((RESAMPLES, count))]
    )
    p = (1 + float((by_chance >= ece - 1e-12).sum())) / (1 + RESAMPLES)
    return Calibration(
        ece=ece,
        expected=float(by_chance.mean()),
        expected_high=float(np.quantile(by_chance, 0.95)),
        p=p,
        n=count,
        bins=pd.DataFrame(rows),
    )


def _ece(which: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean over the samples' bins of |accuracy - confidence|."""
    return float(np.abs(np.bincount(which, right - confidence, minlength=BINS)).sum() / len(right))


def _choices(samples: Any) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, whether right) of every multiple-choice sample with a known answer."""
    known = samples[samples["target"].notna() & samples["prediction"].notna()]
    pairs = []
    for target, prediction, text in zip(
        known["target"], known["prediction"], known["loglikelihoods"], strict=True
    ):
        values = json.loads(text)
        if len(values) > 1 and None not in values:
            shares = np.exp(np.array(values) - max(values))
            pairs.append((shares[prediction] / shares.sum(), float(prediction == target)))
    return np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])
