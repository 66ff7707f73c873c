"""Membership inference: can rows that a model was trained on be told from rows it never saw?

An attack scores every row and guesses that the rows with the highest scores were trained on.

Reference: Yeom et al. 2018 (loss, arXiv 1709.01604); Zhang et al. 2024 (Min-K%++, arXiv
2404.02936); Carlini et al. 2022 (why TPR at a low FPR, arXiv 2112.03570); Newcombe 2006 (the
interval of an AUC, his method 5).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_curve

from workbench.privacy.scores import RowScores

FPR = 0.01
"""The share of held-out rows that may be taken for trained ones (the false positive rate)."""
FEWEST = 100
"""The fewest held-out rows with which a false positive rate of 1 % can be measured."""
LOWEST = 0.2
"""Min-K%++ is the mean over this share of a row's tokens, those with the lowest scores."""
DRAWS = 2000
"""How often the bootstrap draws both groups of rows."""
Z = float(norm.ppf(0.975))
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""

Values = Float[np.ndarray, " _row"]


@dataclass(frozen=True)
class Attack:
    """How well one score tells trained rows from held-out ones.

    - `auc`: the chance that a trained row scores above a held-out one, 0.5 for a guess; with
      Newcombe's 95 % interval
    - `tpr`: the share of trained rows above a threshold that at most 1 % of held-out rows exceed;
      with a 95 % interval by bootstrap over both groups. NaN where held-out rows are too few
    - `n_trained`, `n_held_out`: rows in each group
    - `reason`: why `tpr` is NaN; "" where it is not
    - `false_alarms`, `hits`: the corners of the ROC curve, as the shares of held-out and of trained
      rows above each threshold, from the highest threshold on
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
    false_alarms: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)


def attacks(
    trained: Sequence[RowScores], held_out: Sequence[RowScores], *, seed: int = 0
) -> list[Attack]:
    """Both attacks: by the mean loss of a row, and by Min-K%++.

    Args:
        trained: Scores of rows that the model was trained on.
        held_out: Scores of rows of the same kind that it never saw.
        seed: Seed of the bootstrap.
    """
    results = []
    for name, score in (("loss", _mean_log_prob), ("min_k_plus_plus", _min_k)):
        of_trained = np.array([score(row) for row in trained])
        of_held_out = np.array([score(row) for row in held_out])
        results.append(attack(name, of_trained, of_held_out, seed))
    return results


def attack(name: str, trained: Values, held_out: Values, seed: int = 0) -> Attack:
    """How well one score tells the two groups apart.

    Args:
        name: The name of the score.
        trained: The score of each trained row, which the attack expects to be the higher ones.
        held_out: The score of each held-out row.
        seed: Seed of the bootstrap.
    """
    m = len(trained)
    n = len(held_out)
    area = float(mannwhitneyu(trained, held_out).statistic / (m * n))
    low, high = newcombe(area, m, n)
    curve = _curve(trained, held_out)
    few = f"{n} held-out rows are too few for 1 % false alarms; {FEWEST} are needed"
    if n < FEWEST:
        nan = float("nan")
        return Attack(name, area, low, high, nan, nan, nan, m, n, few, *curve)
    rng = np.random.default_rng(seed)
    draws = [_tpr(rng.choice(trained, m), np.sort(rng.choice(held_out, n))) for _ in range(DRAWS)]
    ends = np.quantile(draws, [0.025, 0.975])
    rate = _tpr(trained, np.sort(held_out))
    tpr_low, tpr_high = map(float, ends)
    return Attack(name, area, low, high, rate, tpr_low, tpr_high, m, n, "", *curve)


def newcombe(area: float, m: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of an AUC; unlike the usual one it has a width at 0 and 1 too.

    Args:
        area: The AUC that was measured.
        m: Rows in the first group.
        n: Rows in the second group.

    Returns:
        The lower and the upper end.

    Reference: Newcombe 2006, method 5.
    """

    def reach(truth: float) -> float:
        """How far from a true AUC a measured one falls with a chance of 95 %."""
        size = (m + n) / 2
        spread = 2 * size - 1 - (3 * size - 3) / ((2 - truth) * (1 + truth))
        return Z * float(np.sqrt(max(0.0, truth * (1 - truth) * spread / (m * n))))

    low = _crossing(lambda truth: area - truth - reach(truth), 0.0, area)
    high = _crossing(lambda truth: truth - area - reach(truth), 1.0, area)
    return low, high


def _crossing(excess: Callable[[float], float], far: float, near: float) -> float:
    """Where the excess is 0 between `far`, where it is above 0, and `near`, where it is below.

    It is `far` itself where the excess is not above 0 there. Sixty halvings are exact to rounding.
    """
    if excess(far) <= 0:
        return far
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if excess(middle) > 0 else (far, middle)
    return (far + near) / 2


def _tpr(trained: Values, held_out: Values) -> float:
    """The share of trained rows above all but 1 % of the held-out rows, which come sorted."""
    allowed = int(FPR * len(held_out))
    return float((trained > held_out[len(held_out) - 1 - allowed]).mean())


def _curve(trained: Values, held_out: Values) -> tuple[list[float], list[float]]:
    """The corners of the ROC curve: shares of held-out and of trained rows above each threshold."""
    truth = np.repeat([1, 0], [len(trained), len(held_out)])
    false_alarms, hits, _ = roc_curve(truth, np.concatenate([trained, held_out]))
    return false_alarms.tolist(), hits.tolist()


def _mean_log_prob(row: RowScores) -> float:
    """The mean log-probability of a row's tokens, which is minus its loss."""
    return float(row.log_prob.mean())


def _min_k(row: RowScores) -> float:
    """Min-K%++: the mean of the lowest standardised scores of a row."""
    k = max(1, int(LOWEST * len(row.z)))
    return float(np.sort(row.z)[:k].mean())
