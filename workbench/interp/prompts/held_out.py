"""Pairs that choose and pairs that judge: what was chosen on some samples looks better on them than
it is.
"""

from workbench.errors import WorkbenchError


def n_choosing(made: int, n: int, held_out: int, what: str) -> int:
    """How many of the `made` pairs choose, the first ones; the rest judges.

    `n` and `held_out` were asked for; where there are fewer, each side has its share. Raises
    `WorkbenchError` where either side would have none; `what` names whose pairs they are.
    """
    if min(n, held_out) < 1:
        raise WorkbenchError(
            f"{what} needs a pair to choose on and one to judge on, not {n} and {held_out}."
        )
    if made < 2:
        raise WorkbenchError(
            f"{what} has {made} pair here; it needs two, one to choose on and one to judge on."
        )
    return min(max(1, round(made * n / (n + held_out))), made - 1)
