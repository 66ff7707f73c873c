"""Membership inference: can rows that a model was trained on be told from rows it never saw?

Reference: Yeom et al. 2018 (loss, arXiv 1709.01604); Zhang et al. 2024 (Min-K%++, arXiv
2404.02936); Carlini et al. 2022 (why TPR at a low FPR, arXiv 2112.03570); Newcombe 2006 (the
interval of an AUC, his method 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import mannwhitneyu, norm

from workbench.privacy.scores import RowScores

FPR = 0.01
"""False alarms that are allowed."""
FEWEST = 100
"""Held-out rows below which one false alarm in a hundred cannot be measured."""
LOWEST = 0.2
"""Share of a row's tokens, the least likely, that Min-K%++ is the mean of."""
DRAWS = 2000
"""Bootstrap draws of both groups of rows."""
Z = float(norm.ppf(0.975))

Values = Float[np.ndarray, " row"]


@dataclass(frozen=True)
class Attack:
    """How well one score tells trained rows from held-out ones.

    - `auc`: the chance that a trained row scores above a held-out one; 0.5 is guessing. Newcombe's
      95 % interval
    - `tpr`: trained rows above a threshold that at most 1 % of held-out rows pass; bootstrap
      interval over both. NaN with `reason` where held-out rows are too few
    """

    name: str
    auc: float
    auc_low: float
    auc_high: float
    tpr: float
    tpr_low: float
    tpr_high: float
    n_trained: int
    n_held_out: int
    reason: str = ""


def attacks(
    trained: Sequence[RowScores], held_out: Sequence[RowScores], *, seed: int = 0
) -> list[Attack]:
    """Both attacks: by the mean loss of a row, and by Min-K%++.

    Args:
        trained: Scores of rows that the model was trained on.
        held_out: Scores of rows of the same kind that it never saw.
        seed: Of the bootstrap.
    """
    scored = {"loss": _mean_log_prob, "min_k_plus_plus": _min_k}
    return [
        attack(name, np.array([of(r) for r in trained]), np.array([of(r) for r in held_out]), seed)
        for name, of in scored.items()
    ]


def attack(name: str, trained: Values, held_out: Values, seed: int = 0) -> Attack:
    """One attack, from a score a row; trained rows should have the higher ones."""
    m, n = len(trained), len(held_out)
    area = float(mannwhitneyu(trained, held_out).statistic / (m * n))
    low, high = newcombe(area, m, n)
    few = f"{n} held-out rows are too few for 1 % false alarms; {FEWEST} are needed"
    if n < FEWEST:
        nan = float("nan")
        return Attack(name, area, low, high, nan, nan, nan, m, n, few)
    rng = np.random.default_rng(seed)
    draws = [_tpr(rng.choice(trained, m), np.sort(rng.choice(held_out, n))) for _ in range(DRAWS)]
    ends = np.quantile(draws, [0.025, 0.975])
    rate = _tpr(trained, np.sort(held_out))
    return Attack(name, area, low, high, rate, float(ends[0]), float(ends[1]), m, n)


def newcombe(area: float, m: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of an AUC over `m` and `n` rows; it holds at 0 and 1 too."""

    def reach(truth: float) -> float:
        size = (m + n) / 2
        spread = 2 * size - 1 - (3 * size - 3) / ((2 - truth) * (1 + truth))
        return Z * float(np.sqrt(max(0.0, truth * (1 - truth) * spread / (m * n))))

    low = _crossing(lambda truth: area - truth - reach(truth), 0.0, area)
    high = _crossing(lambda truth: truth - area - reach(truth), 1.0, area)
    return low, high


def _crossing(excess, far: float, near: float) -> float:
    """Between `far`, where the excess is at least 0, and `near`, where it is not: where it is 0."""
    if excess(far) <= 0:
        return far
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if excess(middle) > 0 else (far, middle)
    return (far + near) / 2


def _tpr(trained: Values, held_out: Values) -> float:
    """The share of trained rows above all but 1 % of the held-out ones, which are sorted."""
    allowed = int(FPR * len(held_out))
    return float((trained > held_out[len(held_out) - 1 - allowed]).mean())


def _mean_log_prob(row: RowScores) -> float:
    return float(row.log_prob.mean())


def _min_k(row: RowScores) -> float:
    k = max(1, int(LOWEST * len(row.z)))
    return float(np.sort(row.z)[:k].mean())
