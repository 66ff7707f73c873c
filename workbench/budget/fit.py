"""Least squares of a sum of powers: exponents on a grid, factors in closed form, profiles.

For given exponents the law is linear in its factors, none of which may be negative. What is tried
for each pair of exponents is every set of factors that may be zero, so no search can get stuck.
"""

import itertools
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import stats

from workbench.budget.points import Point

EXPONENTS = np.geomspace(0.02, 3.0, 200)
"""Tried exponents of N."""
PAIRED = np.array(list(itertools.product(np.geomspace(0.02, 3.0, 50), repeat=2)))
"""Tried exponents of N and D."""
LEVEL = 0.95
FINER = 2
"""Times that the grid is drawn anew around its best part."""


class Solved(NamedTuple):
    """The best factors for each choice of exponents.

    - `factors`: `[choice, 1 + exponents]`: E, A and with tokens B
    - `squares`: `[choice]`, sum of squared errors
    - `inverse`: `[choice, f, f]`, of the normal equations, zero where a factor is
    """

    factors: np.ndarray
    squares: np.ndarray
    inverse: np.ndarray


class Fit(NamedTuple):
    """The best law and all that its profiles need.

    - `error`: standard deviation around the law, with the degrees of freedom left
    """

    points: list[Point]
    grid: np.ndarray
    solved: Solved
    exponents: tuple[float, ...]
    coefficients: tuple[float, ...]
    error: float

    def predict(self, point: Point) -> float:
        """The law's loss at a point."""
        return float(_design([point], np.array([self.exponents]))[0, 0] @ self.coefficients)

    @property
    def threshold(self) -> float:
        """Squared error that Student's t allows beyond the least one."""
        left = max(1, len(self.points) - 1 - 2 * self.grid.shape[1])
        return float(stats.t.ppf((1 + LEVEL) / 2, left) ** 2 * self.error**2)


def fitted(points: list[Point], grid: np.ndarray) -> Fit:
    """The best law through the points.

    Args:
        points: At least one more than the law has numbers.
        grid: `[choice, exponents]`, the exponents that are tried; then finer ones where the
            squared error is small enough to matter.
    """
    fit = _fitted(points, grid)
    for _ in range(FINER):
        fit = _fitted(points, _finer(fit))
    return fit


def _fitted(points: list[Point], grid: np.ndarray) -> Fit:
    solved = _solved(points, grid)
    best = int(np.argmin(solved.squares))
    left = max(1, len(points) - 1 - 2 * grid.shape[1])
    # Rounding leaves some squared error even where points lie on a law exactly.
    error = float(np.sqrt(max(solved.squares[best], 1e-18) / left))
    exponents = tuple(float(x) for x in grid[best])
    return Fit(points, grid, solved, exponents, tuple(map(float, solved.factors[best])), error)


def _finer(fit: Fit) -> np.ndarray:
    """As many exponents in the smallest box around those that the threshold allows."""
    allowed = fit.solved.squares <= fit.solved.squares.min() + fit.threshold
    axes = []
    for column in fit.grid.T:
        values = np.unique(column)
        inside = np.flatnonzero(np.isin(values, column[allowed]))
        low = values[max(0, inside[0] - 1)]
        high = values[min(len(values) - 1, inside[-1] + 1)]
        axes.append(np.geomspace(low, high, len(values)))
    return np.array(list(itertools.product(*axes)))


def interval_of_a_run(fit: Fit, point: Point) -> tuple[float, float]:
    """Ends of the 95 % interval of one run's loss at a point.

    A loss is in it if adding it to the runs raises the least squared error by no more than the
    threshold. For given exponents that error is a parabola in the loss, so its ends are exact.
    """
    row = _design([point], fit.grid)[:, 0]
    centre = np.einsum("cf,cf->c", row, fit.solved.factors)
    spread = 1 + np.einsum("cf,cfg,cg->c", row, fit.solved.inverse, row)
    room = fit.solved.squares.min() + fit.threshold - fit.solved.squares
    allowed = room >= 0
    half = np.sqrt(spread[allowed] * room[allowed])
    return float((centre[allowed] - half).min()), float((centre[allowed] + half).max())


def interval_of_exponent(fit: Fit) -> tuple[float, float]:
    """Ends of the 95 % interval of N's exponent; the ends of the grid where it is open."""
    allowed = fit.solved.squares <= fit.solved.squares.min() + fit.threshold
    chosen = fit.grid[allowed, 0]
    return float(chosen.min()), float(chosen.max())


def _design(points: list[Point], grid: np.ndarray) -> np.ndarray:
    """What the factors multiply, `[choice, point, factor]`: 1, N^-alpha and D^-beta."""
    values = [[p.parameters for p in points], [p.tokens for p in points]][: grid.shape[1]]
    logs = np.log(np.array(values))  # [exponent, point]
    powers = np.exp(-grid[:, :, None] * logs[None])  # [choice, exponent, point]
    ones = np.ones((len(grid), 1, len(points)))
    return np.concatenate([ones, powers], 1).transpose(0, 2, 1)


@cache
def _sets(n: int) -> list[tuple[int, ...]]:
    """All sets of factors that may differ from zero."""
    return [s for size in range(1, n + 1) for s in itertools.combinations(range(n), size)]


def _solved(points: list[Point], grid: np.ndarray) -> Solved:
    """The best factors, none negative, for every choice of exponents."""
    design = _design(points, grid)
    loss = np.array([p.loss for p in points])
    # Columns of like size, so that the normal equations are solved exactly enough.
    scale = np.abs(design).max(1, keepdims=True)
    design = design / scale
    n_choices, _, n_factors = design.shape
    best = np.full(n_choices, np.inf)
    factors = np.zeros((n_choices, n_factors))
    inverse = np.zeros((n_choices, n_factors, n_factors))
    for chosen in _sets(n_factors):
        columns = list(chosen)
        part = design[:, :, columns]
        inverted = np.linalg.pinv(part.transpose(0, 2, 1) @ part, hermitian=True)
        fit: np.ndarray = np.einsum("cfg,cpg,p->cf", inverted, part, loss)
        squares = ((np.einsum("cpf,cf->cp", part, fit) - loss) ** 2).sum(1)
        better = (fit >= 0).all(1) & (squares < best)
        best[better] = squares[better]
        factors[better] = 0
        inverse[better] = 0
        at = np.flatnonzero(better)
        factors[at[:, None], columns] = fit[better]
        inverse[at[:, None, None], np.array(columns)[:, None], columns] = inverted[better]
    scale = scale[:, 0]
    return Solved(factors / scale, best, inverse / scale[:, :, None] / scale[:, None, :])
