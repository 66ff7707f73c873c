"""A scaling law through small runs, and the loss that it predicts for a larger one.

L = E + A / N^alpha, and with the tokens L = E + A / N^alpha + B / D^beta: N parameters without
embeddings (Kaplan et al. 2020, arXiv:2001.08361), the sum with an irreducible loss E by Hoffmann
et al. 2022, arXiv:2203.15556, equation 2. Intervals are profiles of the squared error with
Student's t for the few runs there are (Bates and Watts 1988, chapter 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench.budget.fit import (
    EXPONENTS,
    PAIRED,
    Fit,
    fitted,
    interval_of_a_run,
    interval_of_exponent,
)
from workbench.budget.points import Point, points_of
from workbench.errors import WorkbenchError
from workbench.public import public
from workbench.records import Record

if TYPE_CHECKING:
    import pandas as pd

    from workbench.store import Run

FEWEST = 4
"""Sizes that a law of one exponent needs at least."""
FEWEST_OF_TWO = 7
"""Runs that a law of two exponents needs at least."""
SPAN = 2.0
"""By how much the largest size must exceed the smallest."""
LARGEST = 1e15
"""Most parameters or tokens to predict for."""
FAR = 100.0
"""Times the largest run beyond which a prediction is called bold."""


class HeldOut(NamedTuple):
    """The largest run, predicted from the others.

    - `predicted`, `low`, `high`: the loss and its 95 % interval for one run
    - `inside`: whether the run's own loss lies in it
    """

    parameters: float
    loss: float
    predicted: float
    low: float
    high: float
    inside: bool


@dataclass(frozen=True)
class ScalingLaw(Record):
    """A fitted law; losses in the unit of the runs, which is nats a token for this workbench's.

    - `parameters`, `tokens`, `loss`: of the runs; `tokens` is empty where the law has no D
    - `e`, `a`, `alpha`, `b`, `beta`: the law's; `b` and `beta` are NaN without D
    - `alpha_low`, `alpha_high`: 95 % interval of the exponent
    - `error`: standard deviation of a run around the law, in the unit of the loss
    - `at`, `at_tokens`: what is predicted for; NaN for nothing
    - `predicted`, `low`, `high`: the loss there, and the 95 % interval of one run's loss
    - `held_out`: the largest run predicted from the others; None where too few are left
    """

    parameters: list[float]
    tokens: list[float]
    loss: list[float]
    e: float
    a: float
    alpha: float
    alpha_low: float
    alpha_high: float
    b: float
    beta: float
    error: float
    at: float
    at_tokens: float
    predicted: float
    low: float
    high: float
    held_out: HeldOut | None
    warnings: list[str]

    @property
    def n(self) -> int:
        """The number of runs."""
        return len(self.loss)

    def headline(self) -> str:
        """The law, and what it predicts."""
        law = f"L = {self.e:.3f} + {self.a:.4g} / N^{self.alpha:.3f}"
        if self.tokens:
            law += f" + {self.b:.4g} / D^{self.beta:.3f}"
        if self.at == self.at:
            law += f"; {self.at:,.0f} parameters: {self.predicted:.3f}"
            law += f" [{self.low:.3f}, {self.high:.3f}]"
        return law

    def to_frame(self) -> "pd.DataFrame":
        """One row for each run: its size, its loss, the law's, and the difference."""
        import pandas as pd

        law = self.curve(np.array(self.parameters), np.array(self.tokens) if self.tokens else None)
        frame = pd.DataFrame({"parameters": self.parameters, "loss": self.loss, "law": law})
        if self.tokens:
            frame.insert(1, "tokens", self.tokens)
        frame["difference"] = frame["loss"] - frame["law"]
        return frame

    def curve(self, parameters: Any, tokens: Any = None) -> Any:
        """The law's loss for numbers of parameters, and of tokens where it has them."""
        loss = self.e + self.a / np.asarray(parameters, dtype=float) ** self.alpha
        if self.tokens:
            loss = loss + self.b / np.asarray(tokens, dtype=float) ** self.beta
        return loss

    def band(self, parameters: Any) -> tuple[Any, Any]:
        """Ends of the 95 % interval of one run's loss for each number of parameters.

        With tokens, each at the most tokens of the runs.
        """
        points = _points_in(self)
        fit = fitted(points, _exponents(points))
        most = max(self.tokens) if self.tokens else float("nan")
        ends = [interval_of_a_run(fit, Point(float(n), most, 0.0)) for n in parameters]
        return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


@public()
def scaling_law(
    runs: "Sequence[str | Run | Point | Sequence[float]] | pd.DataFrame | str",
    *,
    at: float | None = None,
    tokens: float | None = None,
    flops: float | None = None,
) -> ScalingLaw:
    """A scaling law through small runs, with the predicted loss of a larger one and its interval.

    Checked by fitting without the largest run and predicting it.

    Args:
        runs: Ids of pretraining runs; or points (parameters, loss) or (parameters, tokens, loss),
            losses in nats; or a table or CSV file with such columns; or the id of a sweep.
        at: Parameters to predict for; None for ten times the largest run.
        tokens: Tokens to predict for, where points have tokens; None for the most of the runs.
        flops: Instead of both, a budget C = 6 N D: the law's best N and D within it.

    Raises:
        WorkbenchError: No law can be fitted to these runs; the message says why.

    Reference:
        Kaplan et al. 2020, arXiv:2001.08361; Hoffmann et al. 2022, arXiv:2203.15556.
    """
    points, remarks = points_of(runs)
    exponents = _exponents(points)
    _check(points, two=exponents.shape[1] == 2)
    fit = fitted(points, exponents)
    _check_fit(fit)
    place = _place(fit, at, tokens, flops)
    low, high = interval_of_a_run(fit, place)
    least, most = interval_of_exponent(fit)
    two = exponents.shape[1] == 2
    return ScalingLaw(
        parameters=[p.parameters for p in points],
        tokens=[p.tokens for p in points] if two else [],
        loss=[p.loss for p in points],
        e=fit.coefficients[0],
        a=fit.coefficients[1],
        alpha=fit.exponents[0],
        alpha_low=least,
        alpha_high=most,
        b=fit.coefficients[2] if two else float("nan"),
        beta=fit.exponents[1] if two else float("nan"),
        error=fit.error,
        at=place.parameters,
        at_tokens=place.tokens if two else float("nan"),
        predicted=fit.predict(place),
        low=low,
        high=high,
        held_out=_held_out(points),
        warnings=[*remarks, *_warnings(points, place)],
    )


def _exponents(points: list[Point]) -> Any:
    """The tried exponents `[choice, 1 or 2]`: two where runs differ in tokens on their own."""
    tokens = {p.tokens for p in points if p.tokens == p.tokens}
    sizes = {p.parameters for p in points}
    varied = len(tokens) > 1 and len({(p.parameters, p.tokens) for p in points}) > len(sizes)
    if varied and all(p.tokens == p.tokens for p in points):
        return PAIRED
    return EXPONENTS[:, None]


def _check(points: list[Point], *, two: bool) -> None:
    """Raise for points through which no law can be drawn."""
    sizes = sorted({p.parameters for p in points})
    if len(sizes) < FEWEST:
        raise WorkbenchError(
            f"A scaling law needs runs of at least {FEWEST} sizes, and these are of {len(sizes)}; "
            "train more widths."
        )
    if two and len(points) < FEWEST_OF_TWO:
        raise WorkbenchError(
            f"With tokens that vary too, a law needs at least {FEWEST_OF_TWO} runs, and there are "
            f"{len(points)}; train more, or give runs of equal tokens."
        )
    if sizes[-1] < SPAN * sizes[0]:
        raise WorkbenchError(
            f"The largest run has {sizes[-1]:,.0f} parameters and the smallest {sizes[0]:,.0f}; "
            f"their sizes must differ by a factor of {SPAN:g} at least."
        )


def _check_fit(fit: Fit) -> None:
    """Raise where the loss does not fall with size as a law says, or its bend is not to be seen."""
    if fit.coefficients[1] <= 0:
        raise WorkbenchError(
            "The loss does not fall with the number of parameters in these runs, so there is no "
            "law to fit; check that all were trained alike and long enough."
        )
    grid = EXPONENTS
    if fit.exponents[0] <= grid[0] or fit.exponents[0] >= grid[-1]:
        raise WorkbenchError(
            "These runs fit no power law: the best exponent is "
            f"{'below' if fit.exponents[0] <= grid[0] else 'above'} what is tried "
            f"({grid[0]:.2f} to {grid[-1]:.1f}); add sizes that are farther from each other."
        )


def _place(fit: Fit, at: float | None, tokens: float | None, flops: float | None) -> Point:
    """What is predicted for."""
    for name, value in (("at", at), ("tokens", tokens), ("flops", flops)):
        if value is not None and not 1 <= value <= LARGEST * (1e15 if name == "flops" else 1):
            raise WorkbenchError(f"{name} is {value!r}; give a number from 1 to {LARGEST:.0e}.")
    two = len(fit.exponents) == 2
    if flops is not None:
        if at is not None or tokens is not None:
            raise WorkbenchError("Give either flops, or at and tokens.")
        if not two:
            raise WorkbenchError(
                "A budget in flops needs a law with tokens: runs that differ in both parameters "
                "and tokens."
            )
        sizes = np.geomspace(1e3, min(LARGEST, flops / 6), 2000)
        losses = [fit.predict(Point(float(n), flops / 6 / n, 0.0)) for n in sizes]
        best = float(sizes[int(np.argmin(losses))])
        return Point(best, flops / 6 / best, 0.0)
    largest = max(p.parameters for p in fit.points)
    most = max(p.tokens for p in fit.points) if two else float("nan")
    return Point(at or 10 * largest, (tokens or most) if two else float("nan"), 0.0)


def _held_out(points: list[Point]) -> HeldOut | None:
    """The largest run, predicted from all smaller ones; None if those are too few."""
    largest = max(points, key=lambda p: (p.parameters, p.tokens if p.tokens == p.tokens else 0))
    others = [p for p in points if p.parameters < largest.parameters]
    try:
        exponents = _exponents(others)
        _check(others, two=exponents.shape[1] == 2)
    except WorkbenchError:
        return None
    fit = fitted(others, exponents)
    low, high = interval_of_a_run(fit, largest)
    return HeldOut(
        largest.parameters,
        largest.loss,
        fit.predict(largest),
        low,
        high,
        bool(low <= largest.loss <= high),
    )


def _warnings(points: list[Point], place: Point) -> list[str]:
    largest = max(p.parameters for p in points)
    sentences = []
    if place.parameters > FAR * largest:
        sentences.append(
            f"{place.parameters:,.0f} parameters are {place.parameters / largest:,.0f} times the "
            "largest run; the interval holds only if the law does that far out."
        )
    return sentences


def _points_in(law: ScalingLaw) -> list[Point]:
    """The points of a law, also of one that was read from a file."""
    tokens = law.tokens or [float("nan")] * law.n
    return [Point(*row) for row in zip(law.parameters, tokens, law.loss, strict=True)]
