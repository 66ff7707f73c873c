"""Calibration of multiple choice: does a model that gives its choice 70 % get 70 % of them right?"""

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import pandas as pd

BINS = 10
RESAMPLES = 1000


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error with its 95 % bootstrap interval over `n` samples, and the bins behind it.

    `bins` has a row for every bin that holds samples: `confidence` and `accuracy` (means), `low` and `high` (95 %,
    Wilson), `n`.
    """

    ece: float
    low: float
    high: float
    n: int
    bins: "pd.DataFrame"


def calibration(samples: "pd.DataFrame", task: str | None = None) -> Calibration:
    """Calibration of a model's choices (Guo et al. 2017, ECE with ten bins of equal width).

    Confidence is the share of the chosen one in the choices' probabilities (the softmax of their log-likelihoods,
    not divided by length). ECE is biased upwards where samples are few, which the interval does not correct.

    Args:
        samples: `Results.samples`.
        task: Of this task only; None for all multiple-choice samples together.

    Raises:
        WorkbenchError: no sample is multiple choice with a known answer.
    """
    import pandas as pd
    from statsmodels.stats.proportion import proportion_confint

    confidence, right = _choices(samples if task is None else samples[samples["task"] == task])
    if not len(right):
        raise WorkbenchError(f"{task or 'The evaluation'} has no multiple-choice samples whose answer is known.")
    rows: list[dict[str, Any]] = []
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for number in np.unique(which):
        inside = which == number
        interval: Any = proportion_confint(int(right[inside].sum()), int(inside.sum()), method="wilson")
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
    drawn = [_ece(which[i], confidence[i], right[i]) for i in rng.integers(0, count, (RESAMPLES, count))]
    low, high = np.percentile(drawn, (2.5, 97.5)) if count > 1 else (math.nan, math.nan)
    return Calibration(_ece(which, confidence, right), float(low), float(high), count, pd.DataFrame(rows))


def _ece(which: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean over the samples' bins of |accuracy - confidence|."""
    return float(np.abs(np.bincount(which, right - confidence, minlength=BINS)).sum() / len(right))


def _choices(samples: Any) -> tuple[np.ndarray, np.ndarray]:
    """Confidence in the choice and whether it is right, of every multiple-choice sample with a known answer."""
    known = samples[samples["target"].notna() & samples["prediction"].notna()]
    pairs = []
    for target, prediction, text in zip(known["target"], known["prediction"], known["loglikelihoods"], strict=True):
        values = json.loads(text)
        if len(values) > 1 and None not in values:
            shares = np.exp(np.array(values) - max(values))
            pairs.append((shares[prediction] / shares.sum(), float(prediction == target)))
    return np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])
