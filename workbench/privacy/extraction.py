"""Verbatim extraction: does a model that reads the beginning of a row write the rest of it?

Reference: Carlini et al. 2021, Extracting Training Data (arXiv 2012.07805), and 2023, Quantifying
Memorization (arXiv 2202.07646).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from statistics import median
from typing import Any

import torch

from workbench.errors import WorkbenchError
from workbench.generation import Request, write
from workbench.privacy.rows import Rows
from workbench.privacy.scan import redact
from workbench.progress import Progress
from workbench.statistics import Difference, Estimate, estimate_mean, unpaired_shares
from workbench.subjects import Subject

LONGEST = 50
"""Tokens that are given, and tokens that have to follow, where nothing else is said."""
SHOWN = 3
"""Reproduced rows that are kept as examples."""


@dataclass(frozen=True)
class Extraction:
    """How many rows a model reproduces verbatim when it reads their beginning, decoding greedily.

    - `prefix`, `continuation`: tokens that are given, and tokens that have to be written
    - `trained`, `held_out`: the share of rows whose continuation is the row's own, token by token
    - `difference`: the share of trained rows minus that of held-out rows; its `base` are the latter
    - `trained_tokens`, `held_out_tokens`: how many tokens are the row's own before the first that
      is not, on the mean
    - `examples`: the first trained rows that were reproduced, as text; what a scan finds in them is
      masked
    - `left_out`: rows that are shorter than `prefix` and `continuation` together
    """

    prefix: int
    continuation: int
    trained: Estimate
    held_out: Estimate
    difference: Difference
    trained_tokens: Estimate
    held_out_tokens: Estimate
    examples: list[str] = field(default_factory=list)
    left_out: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """One row for each number: its name, what it is of, its value, 95 % interval and n."""
        verbatim = f"verbatim, {self.continuation} tokens after {self.prefix}"
        gap = self.difference
        lines = [
            (verbatim, "trained rows", self.trained),
            (verbatim, "held-out rows", self.held_out),
            ("verbatim tokens", "trained rows", self.trained_tokens),
            ("verbatim tokens", "held-out rows", self.held_out_tokens),
        ]
        table = [
            {"measure": what, "of": of, "value": e.value, "low": e.low, "high": e.high, "n": e.n}
            for what, of, e in lines
        ]
        ends = {"low": gap.low, "high": gap.high, "n": gap.n}
        of = "trained minus held-out rows"
        table.insert(2, {"measure": verbatim, "of": of, "value": gap.difference, **ends})
        return table


def extraction(
    subject: Subject,
    trained: Rows,
    held_out: Rows,
    *,
    prefix: int | None = None,
    continuation: int | None = None,
    progress: Progress | None = None,
) -> Extraction:
    """How many rows of each group the model reproduces verbatim.

    Args:
        subject: A causal model.
        trained: Token ids of rows that it was trained on.
        held_out: Token ids of rows of the same kind that it never saw, for the base rate: text that
            can be foretold is reproduced without having been learned by heart.
        prefix: Tokens that the model is given; None for half a row, at most `LONGEST`.
        continuation: Tokens that it has to write; None for the rest of a row, at most `LONGEST`.
        progress: Called with the share that is done, from 0 to 1, and a few words.

    Raises:
        WorkbenchError: For lengths below one token, and where no row is that long.
    """
    usual = int(median(len(row) for row in [*trained, *held_out]))
    n_read = min(LONGEST, usual // 2) if prefix is None else prefix
    n_written = max(1, min(LONGEST, usual - n_read)) if continuation is None else continuation
    _check(subject, n_read, n_written)
    rows = [row for row in [*trained, *held_out] if len(row) >= n_read + n_written]
    if not rows:
        raise WorkbenchError(
            f"No row has {n_read} + {n_written} tokens to begin with and to continue; give a "
            "shorter prefix or continuation."
        )
    requests = [Request(row[:n_read], n_written) for row in rows]

    def report(share: float) -> None:
        if progress is not None:
            progress(share, f"{len(rows):,} rows continued")

    completions = write(subject, requests, progress=report)
    n_right = [
        _agreeing(done.ids, row[n_read:]) for done, row in zip(completions, rows, strict=True)
    ]
    n_trained = sum(len(row) >= n_read + n_written for row in trained)
    of_trained = [n >= n_written for n in n_right[:n_trained]]
    of_held_out = [n >= n_written for n in n_right[n_trained:]]
    reproduced = [row for row, verbatim in zip(rows, of_trained, strict=False) if verbatim]
    return Extraction(
        prefix=n_read,
        continuation=n_written,
        trained=estimate_mean([float(verbatim) for verbatim in of_trained]),
        held_out=estimate_mean([float(verbatim) for verbatim in of_held_out]),
        difference=unpaired_shares(
            (sum(of_held_out), sum(of_trained)), (len(of_held_out), len(of_trained))
        ),
        trained_tokens=estimate_mean([min(n, n_written) for n in n_right[:n_trained]]),
        held_out_tokens=estimate_mean([min(n, n_written) for n in n_right[n_trained:]]),
        examples=_masked(subject, [row[: n_read + n_written] for row in reproduced[:SHOWN]]),
        left_out=len(trained) + len(held_out) - len(rows),
    )


def _check(subject: Subject, prefix: int, continuation: int) -> None:
    """Raise `WorkbenchError` for lengths that cannot be."""
    if min(prefix, continuation) < 1:
        raise WorkbenchError(
            f"A prefix of {prefix} and a continuation of {continuation} tokens cannot be; give at "
            "least one token of each."
        )
    if prefix + continuation > subject.n_ctx:
        raise WorkbenchError(
            f"Prefix and continuation have {prefix + continuation} tokens, and {subject.name} "
            f"reads {subject.n_ctx}; give shorter ones."
        )


def _agreeing(written: Sequence[int], own: Sequence[int]) -> int:
    """How many tokens agree before the first that does not."""
    pairs = zip(written, own, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _masked(subject: Subject, rows: Rows) -> list[str]:
    """The rows as text, with placeholders for the personal data and secrets in them."""
    texts = [subject.text(torch.tensor(row)) for row in rows]
    texts = [text for text in texts if text.strip()]  # blank texts cannot be searched
    return redact(texts) if texts else []
