"""The settings of runs as flat tables, and in which of them runs differ."""

from collections.abc import Iterator, Sequence
from typing import Any

from workbench.store.run import Run

UNTOLD = ("title", "notes", "licence")
"""Settings that change nothing in what a run computes."""


def settings(run: Run) -> dict[str, Any]:
    """A run's settings by their path, such as `train.lr`; lists are one value."""
    return dict(_flat(run.config))


def differing(runs: Sequence[Run]) -> list[str]:
    """The settings in which runs differ, those of the most different values first.

    A setting that a run does not have counts as a value of its own.
    """
    tables = [settings(run) for run in runs]
    values = {
        name: {repr(table.get(name)) for table in tables}
        for name in dict.fromkeys(name for table in tables for name in table)
    }
    differ = [name for name, seen in values.items() if len(seen) > 1 and name not in UNTOLD]
    return sorted(differ, key=lambda name: -len(values[name]))


def outcome(run: Run) -> str:
    """What a run came to, in a few words: a loss, a change, or why it failed; "" while unknown."""
    result = run.result or {}
    if run.error:
        return run.error.splitlines()[-1]
    if changes := result.get("changes"):
        first = changes[0]
        return f"{first['metric']} {first['base']:.3f} → {first['tuned']:.3f}"
    if isinstance(loss := result.get("validation_loss"), float):
        return f"validation loss {loss:.3f}"
    return run.message


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
