"""How often the workbench's intervals hold the true value: samples drawn from laws whose truth is
known.

`python -m tests.simulated docs/intervals.md` writes the table of the docs. The truth of every case
follows from its law alone; of the workbench only the function under test is called.
"""

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import multivariate_normal, norm

from workbench import statistics as ours

SIZES = (10, 20, 30, 100)
Rng = np.random.Generator
Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """An interval of the workbench on samples of one law.

    - `run`: from (generator, n, repetitions) to the ends of every repetition's interval (NaN where
        none is printed)
    - `truth`: what they should hold
    - `conservative`: the reason why more than .98 may hold it, where that cannot be helped
    """

    kind: str
    law: str
    truth: float
    run: Callable[[Rng, int, int], Ends]
    conservative: str = ""
    sizes: tuple[int, ...] = SIZES


@dataclass(frozen=True)
class Covered:
    """What a simulation gave: the share of printed intervals that hold the truth, and the share
    printed at all.
    """

    covered: float
    printed: float
    count: int


def coverage(case: Case, n: int, repetitions: int, seed: int = 0) -> Covered:
    """Simulate one case."""
    low, high = case.run(np.random.default_rng((seed, n)), n, repetitions)
    printed = ~np.isnan(low)
    inside = (low <= case.truth + 1e-12) & (high >= case.truth - 1e-12)
    count = int(printed.sum())
    return Covered(float(inside[printed].mean()) if count else math.nan, count / len(low), count)


def ends(intervals: Iterable[Any]) -> Ends:
    """The ends of many records."""
    pairs = np.array([(one.low, one.high) for one in intervals], dtype=float)
    return pairs[:, 0], pairs[:, 1]


# -- laws ------------------------------------------------------------------------------------------

LAWS: dict[str, tuple[Callable[[Rng, tuple[int, ...]], np.ndarray], float]] = {
    "normal": (lambda rng, size: rng.normal(1, 1, size), 1.0),
    "exponential": (lambda rng, size: rng.exponential(1, size), 1.0),
    "lognormal": (lambda rng, size: rng.lognormal(0, 1, size), math.exp(0.5)),
    "head scores, Beta(.3, 3)": (lambda rng, size: rng.beta(0.3, 3, size), 0.3 / 3.3),
    "bounded, Beta(.5, .5)": (lambda rng, size: rng.beta(0.5, 0.5, size), 0.5),
    "half zeros": (lambda rng, size: rng.exponential(1, size) * (rng.random(size) < 0.5), 0.5),
    "four fifths zeros": (
        lambda rng, size: rng.exponential(1, size) * (rng.random(size) < 0.2),
        0.2,
    ),
}


def _means(law: str) -> Callable[[Rng, int, int], Ends]:
    def run(rng: Rng, n: int, repetitions: int) -> Ends:
        _, low, high = ours.mean_interval(LAWS[law][0](rng, (n, repetitions)))
        return low, high

    return run


def _cells(law: str) -> Callable[[Rng, int, int], Ends]:
    def run(rng: Rng, n: int, repetitions: int) -> Ends:
        statistics = ours.cell_statistics(LAWS[law][0](rng, (n, repetitions)))
        return statistics.low, statistics.high

    return run


def _share(p: float) -> Callable[[Rng, int, int], Ends]:
    def run(rng: Rng, n: int, repetitions: int) -> Ends:
        return ends(
            ours.estimate_mean(row) for row in (rng.random((repetitions, n)) < p).astype(float)
        )

    return run


def clustered(rng: Rng, n: int, size: int, p: float, alike: float) -> tuple[np.ndarray, np.ndarray]:
    """0/1 samples in clusters with Beta shares, any two of a cluster correlated by `alike`; and the
    clusters.
    """
    clusters = np.arange(n) // size
    scale = (1 - alike) / alike
    shares = rng.beta(p * scale, (1 - p) * scale, clusters[-1] + 1)
    return (rng.random(n) < shares[clusters]).astype(float), clusters


def _clustered_share(p: float, size: int, alike: float) -> Callable[[Rng, int, int], Ends]:
    def run(rng: Rng, n: int, repetitions: int) -> Ends:
        drawn = (clustered(rng, n, size, p, alike) for _ in range(repetitions))
        return ends(ours.estimate_mean(x, clusters.tolist()) for x, clusters in drawn)

    return run


def _clustered_mean(size: int) -> Callable[[Rng, int, int], Ends]:
    def one(rng: Rng, n: int) -> Any:
        clusters = np.arange(n) // size
        x = rng.exponential(1, n) * 0.5 + rng.exponential(1, clusters[-1] + 1)[clusters] * 0.5
        return ours.estimate_mean(x, clusters.tolist())

    return lambda rng, n, repetitions: ends(one(rng, n) for _ in range(repetitions))


def both_right(first: float, second: float, correlation: float) -> float:
    """How often two answers are both right whose latent normals correlate so."""
    cut = [float(norm.ppf(first)), float(norm.ppf(second))]
    covariance: Any = [[1, correlation], [correlation, 1]]
    return float(multivariate_normal.cdf(cut, cov=covariance))


def answers(rng: Rng, n: int, only_base: float, only_tuned: float) -> tuple[np.ndarray, np.ndarray]:
    """Paired 0/1 answers; where the models agree they are right."""
    u = rng.random(n)
    return (u >= only_tuned).astype(float), (u < 1 - only_base).astype(float)


def _paired_shares(
    first: float, second: float, correlation: float
) -> Callable[[Rng, int, int], Ends]:
    both = both_right(first, second, correlation)

    def run(rng: Rng, n: int, repetitions: int) -> Ends:
        drawn = (answers(rng, n, first - both, second - both) for _ in range(repetitions))
        return ends(ours.paired_difference(*pair) for pair in drawn)

    return run


def _clustered_pairs(size: int) -> Callable[[Rng, int, int], Ends]:
    def one(rng: Rng, n: int) -> Any:
        base, clusters = clustered(rng, n, size, 0.5, 0.4)
        tuned = np.where(rng.random(n) < 0.25, clustered(rng, n, size, 0.8, 0.4)[0], base)
        return ours.paired_difference(base, tuned, clusters=clusters.tolist())

    return lambda rng, n, repetitions: ends(one(rng, n) for _ in range(repetitions))


def _paired(law: str) -> Callable[[Rng, int, int], Ends]:
    def one(rng: Rng, n: int) -> Any:
        base = rng.normal(0, 1, n)
        return ours.paired_difference(base, base + LAWS[law][0](rng, (n,)))

    return lambda rng, n, repetitions: ends(one(rng, n) for _ in range(repetitions))


def _weighted(rng: Rng, n: int, repetitions: int) -> Ends:
    """Bits a byte: texts of 20 to 400 bytes; the difference is 0.1 on average of every length."""

    def one() -> Any:
        sizes = rng.integers(20, 400, n)
        base = rng.gamma(4, 0.5, n)
        return ours.paired_difference(base, base + 0.1 * rng.exponential(1, n), weights=sizes)

    return ends(one() for _ in range(repetitions))


def _gain_share(rng: Rng, n: int, repetitions: int) -> Ends:
    """The part's gain is half the whole's on average, with noise of its own."""

    def one() -> Any:
        base = rng.normal(0, 1, n)
        gain = rng.normal(1, 0.8, n)
        shares = ours.gain_shares(
            (base + gain / 2 + rng.normal(0, 0.3, n))[None], base, base + gain
        )
        return type("Ends", (), {"low": shares.low[0], "high": shares.high[0]})

    return ends(one() for _ in range(repetitions))


def _effect(share: float) -> Callable[[Rng, int, int], Ends]:
    """Probe maps: an effect as a share of a span that varies from pair to pair."""

    def one(rng: Rng, n: int) -> Any:
        span = rng.gamma(4, 1, n)
        statistics = ours.cell_statistics((share * span + rng.normal(0, 0.5, n))[:, None], per=span)
        return type("Ends", (), {"low": statistics.low[0], "high": statistics.high[0]})

    return lambda rng, n, repetitions: ends(one(rng, n) for _ in range(repetitions))


def _faithfulness(rng: Rng, n: int, repetitions: int) -> Ends:
    def one() -> Any:
        span = rng.normal(3, 1, n)
        return ours.estimate_ratio(0.85 * span + rng.normal(0, 0.6, n), span)

    return ends(one() for _ in range(repetitions))


def counts(rng: Rng, n: int, right: float) -> np.ndarray:
    """Entities of texts as (found, wrong, missed); 1 to 4 a text, each found with this chance, else
    often misnamed.
    """
    there = rng.integers(1, 5, n)
    right_ones = rng.binomial(there, right)
    return np.stack(
        [right_ones, rng.binomial(there - right_ones, 0.7), there - right_ones], axis=1
    ).astype(float)


def f1(sums: np.ndarray) -> np.ndarray:
    """Micro F1 of summed counts."""
    return 2 * sums[..., 0] / np.maximum(2 * sums[..., 0] + sums[..., 1] + sums[..., 2], 1)


def true_f1(right: float) -> float:
    """F1 of endlessly many texts."""
    return 2 * right / (2 * right + (1 - right) * 1.7)


def _f1(rng: Rng, n: int, repetitions: int) -> Ends:
    drawn = (list(counts(rng, n, 0.6)) for _ in range(repetitions))
    return ends(
        ours.estimate_aggregate(items, lambda part: float(f1(np.sum(part, 0)))) for items in drawn
    )


def _f1_difference(rng: Rng, n: int, repetitions: int) -> Ends:
    drawn = ((counts(rng, n, 0.5), counts(rng, n, 0.65)) for _ in range(repetitions))
    return ends(ours.paired_counts(a, b, f1) for a, b in drawn)


def _perplexity(rng: Rng, n: int, repetitions: int) -> Ends:
    def perplexity(items: list[float]) -> float:
        return math.exp(-sum(items) / len(items))

    drawn = (list(-rng.gamma(3, 1, n)) for _ in range(repetitions))
    return ends(ours.estimate_aggregate(items, perplexity) for items in drawn)


DISCRETE = "0/1 scores take few values: what holds everywhere holds more often in places"
FEW = "few pairs differ, and the interval is drawn out to 0 where the exact test does not reject"
SPARSE = "few samples lie off the ends, so the skewness of a sample says little"
WIDE = ("bounded, Beta(.5, .5)", "half zeros", "four fifths zeros")
CLUSTERS = "few clusters leave the design effect unknown; the interval allows for a large one"

CASES = [
    *(Case("mean", law, truth, _means(law)) for law, (_, truth) in LAWS.items() if law not in WIDE),
    *(
        Case("mean", law, truth, _means(law), SPARSE)
        for law, (_, truth) in LAWS.items()
        if law in WIDE
    ),
    *(
        Case("map cell", law, LAWS[law][1], _cells(law))
        for law in ("normal", "exponential", "lognormal")
    ),
    *(Case("share right", f"p = {p}", p, _share(p), DISCRETE) for p in (0.1, 0.5, 0.8, 0.95)),
    *(
        Case(
            "share right, clusters", f"p = {p}, clusters of {size}, alike {alike}", p, run, CLUSTERS
        )
        for p, size, alike in ((0.5, 2, 0.3), (0.8, 2, 0.3), (0.3, 3, 0.5), (0.1, 2, 0.3))
        for run in [_clustered_share(p, size, alike)]
    ),
    Case("mean, clusters", "exponential, clusters of 2", 1.0, _clustered_mean(2)),
    Case(
        "paired 0/1",
        ".80 and .85, latent correlation .9",
        0.05,
        _paired_shares(0.8, 0.85, 0.9),
        FEW,
    ),
    Case(
        "paired 0/1", ".50 and .70, latent correlation .5", 0.2, _paired_shares(0.5, 0.7, 0.5), FEW
    ),
    Case(
        "paired 0/1", ".70 and .70, latent correlation .5", 0.0, _paired_shares(0.7, 0.7, 0.5), FEW
    ),
    Case("paired 0/1, clusters", "clusters of 2", 0.075, _clustered_pairs(2), FEW),
    *(
        Case("paired means", law, LAWS[law][1], _paired(law))
        for law in ("normal", "exponential", "lognormal")
    ),
    Case("paired bits a byte", "exponential, weighted", 0.1, _weighted),
    Case("share of a gain", "normal", 0.5, _gain_share),
    *(
        Case("probe effect", f"true {share}, span Gamma(4)", share, _effect(share))
        for share in (0.0, 0.5, 1.0)
    ),
    Case("faithfulness", "span normal", 0.85, _faithfulness),
    Case("F1", "micro, 1 to 4 entities", true_f1(0.6), _f1),
    Case("F1, paired", "micro, 1 to 4 entities", true_f1(0.65) - true_f1(0.5), _f1_difference),
    Case("perplexity", "Gamma(3) losses", math.exp(3), _perplexity),
]


def lines(repetitions: int) -> list[str]:
    """The table of the docs: one row a case, the coverage at every n, and the share printed where
    not all are.
    """
    sizes = (6, *SIZES)
    rows = [
        f"| number | samples | {' | '.join(f'n = {n}' for n in sizes)} |",
        "|---|---|" + "---|" * len(sizes),
    ]
    for case in CASES:
        coverages = [coverage(case, n, repetitions) for n in sizes]
        cells = ["none" if not one.count else f"{one.covered:.3f}" for one in coverages]
        cells = [
            cell + (f" ({one.printed:.0%} printed)" if 0 < one.printed < 1 else "")
            for cell, one in zip(cells, coverages, strict=True)
        ]
        rows.append(f"| {case.kind} | {case.law} | {' | '.join(cells)} |")
    return rows


def main(path: str, repetitions: int = 200) -> None:
    """Write the coverage table into the docs between its marks."""
    file = Path(path)
    before, _, rest = file.read_text(encoding="utf-8").partition("<!-- table -->\n")
    after = rest.partition("<!-- end -->")[2]
    table = "\n".join([f"{repetitions} repetitions a cell.", "", *lines(repetitions), ""])
    file.write_text(f"{before}<!-- table -->\n{table}<!-- end -->{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
