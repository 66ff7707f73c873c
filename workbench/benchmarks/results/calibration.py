"""Calibration of multiple choice: does a model that gives its choice 70 % get 70 % of them right?"""

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
    """Expected calibration error over `n` samples, beside what a perfectly calibrated model would
    show.

    - `ece`: as it is; few samples make it larger than it should be, so it has no interval
    - `expected`, `expected_high`: mean and 95 % limit of the ECE that chance alone gives to a model
      of these confidences that is right exactly as often as it is sure
    - `p`: how often chance alone gives an ECE as large as this one

    - `bins` has a row for every bin that holds samples: `confidence` and `accuracy` (means), `low`
      and `high` (95 %, Blaker), `n`
    """

    ece: float
    expected: float
    expected_high: float
    p: float
    n: int
    bins: "pd.DataFrame"


def calibration(samples: "pd.DataFrame", task: str | None = None) -> Calibration:
    """Calibration of a model's choices (Guo et al. 2017, ECE with ten bins of equal width).

    Confidence is the share of the chosen one in the choices' probabilities (the softmax of their
    log-likelihoods, not divided by length). ECE is biased upwards where samples are few: `expected`
    says by how much.

    Args:
        samples: `Results.samples`.
        task: Of this task only; None for all multiple-choice samples together.

    Raises:
        WorkbenchError: no sample is multiple choice with a known answer.
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
    expected, most = float(by_chance.mean()), float(np.quantile(by_chance, 0.95))
    return Calibration(ece, expected, most, p, count, pd.DataFrame(rows))


def _ece(which: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean over the samples' bins of |accuracy - confidence|."""
    return float(np.abs(np.bincount(which, right - confidence, minlength=BINS)).sum() / len(right))


def _choices(samples: Any) -> tuple[np.ndarray, np.ndarray]:
    """Confidence in the choice and whether it is right, of every multiple-choice sample with a
    known answer.
    """
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
