"""Splits pairs into those that choose and those that evaluate.

What was chosen on some samples looks better on them than it is.
"""

from workbench.errors import WorkbenchError


def n_choosing(n_pairs: int, n: int, held_out: int, what: str) -> int:
    """How many of the pairs choose; these are the first ones, and the rest evaluates.

    Args:
        n_pairs: How many pairs there are. If fewer than wanted, each side gets its share.
        n: Pairs wanted for choosing.
        held_out: Pairs wanted for evaluating.
        what: Whose pairs they are, for the error.

    Raises:
        WorkbenchError: Either side would have no pair.
    """
    if min(n, held_out) < 1:
        raise WorkbenchError(
            f"{what} needs a pair to choose on and one to judge on, not {n} and {held_out}."
        )
    if n_pairs < 2:
        raise WorkbenchError(
            f"{what} has {n_pairs} pair here; it needs two, one to choose on and one to judge on."
        )
    return min(max(1, round(n_pairs * n / (n + held_out))), n_pairs - 1)
