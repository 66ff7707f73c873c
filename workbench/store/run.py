"""The record of one run, and how it is read from and written to a row of the store."""

import calendar
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.paths import home
from workbench.records import Record

if TYPE_CHECKING:
    import pandas as pd

ACTIVE = ("queued", "running")
UNENDED = (*ACTIVE, "interrupted")
"""Statuses of runs that may still come to an end; the process of an interrupted one is gone."""


@dataclass(frozen=True)
class Run(Record):
    """A run as it was when it was read from the store.

    - `status`: queued, running, done, failed, cancelled or interrupted
    - `progress`: 0 to 1
    - `created`, `started`, `ended`: unix seconds
    - `tags`: words that a person has given it, in alphabetical order
    """

    id: str
    kind: str
    title: str
    status: str
    config: dict[str, Any]
    result: dict[str, Any] | None
    progress: float
    message: str
    error: str | None
    parent: str | None
    created: float
    started: float | None
    ended: float | None
    pid: int
    host: str
    commit: str | None
    versions: dict[str, str]
    tags: tuple[str, ...] = ()

    def headline(self) -> str:
        """Id, title, status, progress and error in one line."""
        reason = f": {self.error.splitlines()[-1]}" if self.error else ""
        return f"{self.id}, {self.kind} {self.title!r}, {self.status} ({self.progress:.0%}){reason}"

    def to_frame(self) -> "pd.DataFrame":
        """The run as a table with one row per property."""
        import pandas as pd

        facts = (
            "id",
            "kind",
            "title",
            "status",
            "progress",
            "message",
            "error",
            "parent",
            "created",
            "ended",
            "commit",
        )
        rows = {name: getattr(self, name) for name in facts}
        rows |= {"tags": ", ".join(self.tags), "folder": self.folder}
        known = {name: value for name, value in rows.items() if value not in (None, "")}
        return pd.DataFrame(
            {"fact": list(known), "value": [str(value) for value in known.values()]}
        )

    @property
    def folder(self) -> Path:
        """The folder with `log.txt` and everything the run writes, such as checkpoints."""
        return runs_folder() / self.id

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Checkpoint folder by step, in order of steps."""
        return checkpoints_in(self.folder)

    @property
    def active(self) -> bool:
        """Whether the run is queued or running."""
        return self.status in ACTIVE


def checkpoints_in(run_folder: Path) -> dict[int, Path]:
    """Checkpoint folder by step, in order of steps."""
    folders = (run_folder / "checkpoints").glob("step-*")
    steps = {folder.name.removeprefix("step-"): folder for folder in folders if folder.is_dir()}
    return {int(step): steps[step] for step in sorted(step for step in steps if step.isdecimal())}


def read_run(row: Any, tags: Sequence[str] = ()) -> Run:
    """The run of one row of the table.

    Args:
        row: The row, by column.
        tags: The run's tags.

    Raises:
        WorkbenchError: A text of the row that should be JSON is not.
    """
    values = {field.name: row[field.name] for field in fields(Run) if field.name != "tags"}
    for name in ("config", "result", "versions"):
        try:
            values[name] = None if values[name] is None else json.loads(values[name])
        except (ValueError, TypeError, RecursionError) as error:
            raise WorkbenchError(
                f"the run store is damaged: the {name} of run {values['id']} is not JSON; put a "
                "copy of the store in its place, or move it aside (a new one is made)"
            ) from error
    return Run(**values, tags=tuple(sorted(tags)))


def to_json(value: Any) -> str:
    """A value as JSON, NaN and infinities allowed; NumPy, torch and paths become plain values."""
    return json.dumps(value, default=_plain)


def runs_folder() -> Path:
    """The folder that holds one folder per run; it is made when missing.

    Raises:
        WorkbenchError: The home folder cannot be written to.
    """
    try:
        folder = home() / "runs"
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _not_writable(error) from error
    return folder


def make_folder() -> tuple[Path, float]:
    """Makes the folder of a new run and returns it with its time in unix seconds.

    The folder's name is the run's id: date and time in UTC and the fraction of the second in four
    hex digits, so ids sort by time. A folder can be made only once, so no two processes get the
    same id.
    """
    while True:
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        folder = runs_folder() / f"{stamp}-{int(now % 1 * 65536):04x}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _not_writable(error) from error
        return folder, now


def day_of(run_id: str) -> str:
    """The local day and time in a run's id, such as `26 Nov 21:19:03`."""
    began = calendar.timegm(time.strptime(run_id[:15], "%Y%m%d-%H%M%S"))
    return time.strftime("%d %b %H:%M:%S", time.localtime(began))


def one_line(error: BaseException) -> str:
    """An error as one line: a `WorkbenchError`'s message, or the type and message of any other."""
    message = " ".join(str(error).split())
    if isinstance(error, WorkbenchError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _not_writable(error: OSError) -> WorkbenchError:
    """The error for a home folder that cannot be written to."""
    return WorkbenchError(
        f"cannot write to {error.filename} ({error.strerror}); set WORKBENCH_HOME to a folder that "
        "you may write to"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be stored as JSON: {value!r}")
