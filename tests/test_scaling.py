"""Scaling laws: planted ones come back, their intervals cover, and what is no law is refused."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

import workbench as wb
from workbench.budget.fit import EXPONENTS, fitted, interval_of_a_run, interval_of_exponent
from workbench.budget.points import Point
from workbench.errors import WorkbenchError

pytestmark = pytest.mark.quick

PLANTED = [(1.4, 460.0, 0.7), (2.0, 50.0, 0.3), (0.0, 30.0, 0.2), (3.0, 5000.0, 1.0)]
DRAWS = 60
LARGE = 5e6


def law(n, e, a, alpha):
    return e + a / np.asarray(n, dtype=float) ** alpha


@pytest.mark.parametrize(("e", "a", "alpha"), PLANTED)
def test_a_law_without_noise_comes_back(e, a, alpha):
    sizes = np.geomspace(2e4, 6e5, 6)
    result = wb.scaling_law(list(zip(sizes, law(sizes, e, a, alpha), strict=True)), at=LARGE)
    assert result.alpha == pytest.approx(alpha, rel=1e-3)
    assert result.predicted == pytest.approx(float(law(LARGE, e, a, alpha)), abs=2e-4)
    assert result.held_out is not None
    assert result.held_out.predicted == pytest.approx(result.held_out.loss, abs=1e-3)


@pytest.mark.parametrize(("e", "a", "alpha"), PLANTED)
def test_the_fit_is_the_one_of_a_general_solver(e, a, alpha):
    sizes = np.geomspace(2e4, 6e5, 7)
    loss = law(sizes, e, a, alpha) + np.random.default_rng(1).normal(0, 0.01, 7)
    points = [Point(n, math.nan, v) for n, v in zip(sizes, loss, strict=True)]
    ours = fitted(points, EXPONENTS[:, None]).solved.squares.min()
    solved = least_squares(
        lambda x: law(sizes, x[0], math.exp(x[1]), x[2]) - loss,
        (e + 0.01, math.log(a), alpha),
        bounds=([0, -50, 0.02], [10, 50, 3]),
        xtol=1e-14,
        ftol=1e-14,
        x_scale=(1, 1, 0.1),
    )
    assert ours <= 2 * solved.cost * (1 + 2e-3)  # the grid's step is what is left


@pytest.mark.parametrize("n", [4, 5, 6, 8])
def test_the_interval_of_a_run_covers_what_was_planted(n):
    """95 % of new runs; over four laws and two sizes of noise, 480 data sets for each n."""
    rng = np.random.default_rng(n)
    sizes = np.geomspace(2e4, 6.4e5, n)
    runs = exponents = 0
    for e, a, alpha in PLANTED:
        for noise in (0.003, 0.02):
            for _ in range(DRAWS):
                loss = law(sizes, e, a, alpha) + rng.normal(0, noise, n)
                points = [Point(s, math.nan, v) for s, v in zip(sizes, loss, strict=True)]
                fit = fitted(points, EXPONENTS[:, None])
                low, high = interval_of_a_run(fit, Point(LARGE, math.nan, 0.0))
                runs += low <= law(LARGE, e, a, alpha) + rng.normal(0, noise) <= high
                least, most = interval_of_exponent(fit)
                exponents += least <= alpha <= most
    total = len(PLANTED) * 2 * DRAWS
    assert 0.92 <= runs / total <= 0.99
    assert 0.92 <= exponents / total <= 0.99


def test_a_law_with_tokens_comes_back_and_shares_a_budget():
    """Hoffmann et al.'s own numbers; the best share of a budget follows from their equation 4."""
    e = 1.69
    a = 406.4
    alpha = 0.34
    b = 410.7
    beta = 0.28
    points = [
        (n, d, e + a / n**alpha + b / d**beta)
        for n in np.geomspace(1e7, 1e9, 4)
        for d in np.geomspace(1e9, 1e11, 3)
    ]
    result = wb.scaling_law(points, flops=1e21)
    assert (result.alpha, result.beta) == pytest.approx((alpha, beta), rel=0.02)
    share = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    best = share * (1e21 / 6) ** (beta / (alpha + beta))
    assert result.at == pytest.approx(best, rel=0.1)
    assert result.at * result.at_tokens * 6 == pytest.approx(1e21)
    assert result.predicted == pytest.approx(
        e + a / best**alpha + b / (1e21 / 6 / best) ** beta, abs=5e-3
    )


FALLING = [(1e4, 3.0), (3e4, 2.5), (1e5, 2.2), (3e5, 2.05)]


@pytest.mark.parametrize(
    ("points", "more", "words"),
    [
        (FALLING[:3], {}, "at least 4 sizes"),
        ([(1e4, 3.0)] * 6, {}, "at least 4 sizes"),
        ([(n, 6 - loss) for n, loss in FALLING], {}, "does not fall"),
        ([(1e4 * (1 + i / 10), 3 - i / 10) for i in range(5)], {}, "factor of 2"),
        ([(1e4, 4.0), (2e4, 2.0), (4e4, 1.999), (8e4, 1.9989)], {}, "fit no power law"),
        ([*FALLING, (1e6, math.nan)], {}, "positive and finite"),
        ([*FALLING, (0, 2.0)], {}, "positive and finite"),
        ([*FALLING, ("many", 2.0)], {}, "is no point"),
        (FALLING, {"at": -1.0}, "at is -1"),
        (FALLING, {"flops": 1e18}, "law with tokens"),
        (7, {}, "as a list"),
        (pd.DataFrame({"size": [1.0], "loss": [2.0]}), {}, "needs parameters and loss"),
    ],
)
def test_what_is_no_law_is_refused_in_a_sentence(points, more, words):
    with pytest.raises(WorkbenchError, match=words):
        wb.scaling_law(points, **more)


def test_a_law_is_read_from_a_table_written_and_drawn(tmp_path, run):
    sizes = np.geomspace(2e4, 6e5, 6)
    loss = law(sizes, 1.4, 460, 0.7) + np.random.default_rng(0).normal(0, 0.005, 6)
    table = pd.DataFrame({"Parameters": sizes, "Loss": loss})
    file = tmp_path / "runs.csv"
    table.to_csv(file, index=False)
    result = wb.scaling_law(str(file), at=LARGE)
    assert repr(result) == repr(wb.scaling_law(table, at=LARGE)) and result.n == 6
    again = type(result).from_json(result.to_json())
    assert again.to_json() == result.to_json()
    assert result.low < result.predicted < result.high
    low, high = again.band([LARGE])
    assert (low[0], high[0]) == pytest.approx((result.low, result.high))
    printed = json.loads(run("scaling", str(file), "--at", "5e6", "--json").stdout)
    assert printed["predicted"] == pytest.approx(result.predicted)
