"""`workbench bench growth`: how the time of a patching map grows, against its arithmetic."""

from collections.abc import Callable
from functools import partial
from typing import Any

from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import run_sweep, run_sweeps
from workbench.speed.patching import matrix_rate, needed_flops
from workbench.speed.shapes import random_gpt, random_pairs
from workbench.speed.timing import median_seconds
from workbench.subjects import Subject

TOKENS = (8, 16, 32, 64, 128, 256)
LAYERS = (2, 4, 8, 16)
WIDTHS = (64, 128, 256, 512)
PAIRS = (1, 2, 4, 8, 16, 32)
USUAL = {"layers": 6, "width": 192, "tokens": 32}
"""The shape of which one side is varied: that of shelf-base."""


def bench(progress: Callable[[str], None], n: int = 3) -> list[dict[str, Any]]:
    """One row for each size: median seconds of a layer x position map, and those of its arithmetic.

    Every row has an `axis` (tokens, layers, width or pairs) and its `size`. The model's weights are
    random, and all tokens of a pair differ, so that no cell is known beforehand. For pairs,
    `alone_s` is the time of as many maps one after the other, and `max_abs_diff` the largest
    difference from these.

    Args:
        progress: Called with what is being measured.
        n: Runs of each size; the median counts.
    """
    rows = []
    for axis, sizes in (("tokens", TOKENS), ("layers", LAYERS), ("width", WIDTHS)):
        for size in sizes:
            progress(f"{axis}: {size}")
            shape = {**USUAL, axis: size}
            subject = random_gpt(shape["layers"], shape["width"], shape["tokens"])
            question = random_pairs(subject, shape["tokens"], 1)[0]
            run_sweep(subject, question, Settings())  # warm up
            seconds = median_seconds(partial(run_sweep, subject, question, Settings()), n)
            rows.append(_row(axis, size, subject, shape["tokens"], 1, seconds))
    subject = random_gpt(USUAL["layers"], USUAL["width"], USUAL["tokens"])
    for size in PAIRS:
        progress(f"pairs: {size}")
        rows.append(_pairs(subject, size, n))
    return rows


def _pairs(subject: Subject, size: int, n: int) -> dict[str, Any]:
    """The row of many pairs: together, and one after the other."""
    questions = random_pairs(subject, USUAL["tokens"], size)
    together = run_sweeps(subject, questions, Settings())
    alone = [run_sweep(subject, question, Settings()) for question in questions]
    off = max(
        float((a.values - b.values).abs().max()) for a, b in zip(together, alone, strict=True)
    )
    seconds = median_seconds(lambda: run_sweeps(subject, questions, Settings()), n)
    alone_s = median_seconds(lambda: [run_sweep(subject, q, Settings()) for q in questions], n)
    row = _row("pairs", size, subject, USUAL["tokens"], size, seconds)
    return {**row, "alone_s": alone_s, "ratio": alone_s / seconds, "max_abs_diff": off}


def _row(
    axis: str, size: int, subject: Subject, n_tokens: int, n_pairs: int, seconds: float
) -> dict[str, Any]:
    """A row with the seconds of the arithmetic at the rate that is measured beside it."""
    floor = n_pairs * needed_flops(subject, n_tokens) / matrix_rate(subject, 0.3)
    return {
        "case": f"{size} {axis}",
        "axis": axis,
        "size": size,
        "ours_s": seconds,
        "floor_s": floor,
        "over_floor": seconds / floor,
    }
