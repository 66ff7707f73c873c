"""Points of a scaling law: sizes and losses of runs, from the store, a table or a file."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import pandas as pd

    from workbench.store import Run

MOST = 10_000
"""Points at most."""


class Point(NamedTuple):
    """A run: parameters without embeddings, tokens it was trained on (NaN: not given), its loss."""

    parameters: float
    tokens: float
    loss: float


def points_of(runs: Any) -> tuple[list[Point], list[str]]:
    """The points in what `scaling_law` takes, smallest first, and what was assumed.

    Raises:
        WorkbenchError: Something is no run or point, or a number is not positive.
    """
    import pandas as pd

    remarks: list[str] = []
    if isinstance(runs, str):
        runs = _of_name(runs)
    if isinstance(runs, pd.DataFrame):
        runs = _of_table(runs)
    if not isinstance(runs, Sequence):
        raise WorkbenchError("Give runs or points as a list, a table or the name of a CSV file.")
    if len(runs) > MOST:
        raise WorkbenchError(f"There are {len(runs):,} points and may be {MOST:,}; leave some out.")
    points = [_point(one, remarks) for one in runs]
    return sorted(points), list(dict.fromkeys(remarks))


def _of_name(name: str) -> Any:
    """The points of a CSV file, or the cells of a sweep."""
    if name.lower().endswith((".csv", ".parquet")):
        import pandas as pd

        from workbench.data.files import read
        from workbench.doors import path_of

        return pd.DataFrame(list(read(path_of(name))))
    from workbench.store import Store

    store = Store()
    run = store.get(name)
    cells = [one for one in store.list(limit=MOST) if one.parent == run.id]
    return cells or [run]


def _of_table(table: "pd.DataFrame") -> list[tuple[float, ...]]:
    """Rows of a table with the columns parameters, loss and perhaps tokens."""
    names = {str(name).strip().lower(): name for name in table}
    if not {"parameters", "loss"} <= set(names):
        raise WorkbenchError(
            f"The table has the columns {', '.join(map(str, table))}; it needs parameters and loss "
            "(and may have tokens)."
        )
    order = [names[n] for n in ("parameters", "tokens", "loss") if n in names]
    return [tuple(row) for row in table[order].itertuples(index=False, name=None)]


def _point(one: Any, remarks: list[str]) -> Point:
    from workbench.store import Run, Store

    if isinstance(one, str):
        one = Store().get(one.removeprefix("run:"))
    if isinstance(one, Run):
        return _of_run(one, remarks)
    try:
        numbers = [float(value) for value in one]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (2, 3):
        raise WorkbenchError(
            f"{one!r} is no point; give (parameters, loss) or (parameters, tokens, loss)."
        )
    point = Point(numbers[0], numbers[1] if len(numbers) == 3 else math.nan, numbers[-1])
    given = [*numbers[:-1], point.loss]
    if not all(0 < value < math.inf for value in given):
        raise WorkbenchError(f"{one!r} is no point: its numbers must be positive and finite.")
    return point


def _of_run(run: "Run", remarks: list[str]) -> Point:
    """The point of a pretraining run that is done."""
    loss = (run.result or {}).get("best_validation_loss")
    if run.kind != "train" or run.status != "done" or not isinstance(loss, int | float):
        raise WorkbenchError(
            f"The run {run.id} ({run.title}) is no pretraining run that is done; a scaling law "
            "takes those."
        )
    from workbench.subjects import load

    subject = load(f"run:{run.id}", device="cpu")
    embedding: Any = subject.model.get_input_embeddings()
    table = embedding.weight.numel()
    tokens = float((run.result or {}).get("tokens") or math.nan)
    remarks.append("Parameters are counted without the token embedding, as by Kaplan et al.")
    return Point(float(subject.card.n_params - table), tokens, float(loss))
