"""One run as it is read from the store, and how its columns are spelled there."""

import json
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.paths import home
from workbench.records import Record

if TYPE_CHECKING:
    import pandas as pd

ACTIVE = ("queued", "running")


@dataclass(frozen=True)
class Run(Record):
    """One row of the store, as it was when it was read. Times are unix seconds, `progress` is 0 to
    1.

    The status is one of queued, running, done, failed, cancelled, interrupted.
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

    def headline(self) -> str:
        """Its title, how far it is, and what went wrong."""
        reason = f": {self.error.splitlines()[-1]}" if self.error else ""
        return f"{self.id}, {self.kind} {self.title!r}, {self.status} ({self.progress:.0%}){reason}"

    def to_frame(self) -> "pd.DataFrame":
        """The run as a table, a row a fact."""
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
        rows = {name: getattr(self, name) for name in facts} | {"folder": self.folder}
        known = {name: value for name, value in rows.items() if value not in (None, "")}
        return pd.DataFrame(
            {"fact": list(known), "value": [str(value) for value in known.values()]}
        )

    @property
    def folder(self) -> Path:
        """Holds `log.txt` and whatever the run writes: checkpoints, samples."""
        return runs_folder() / self.id

    @property
    def checkpoints(self) -> dict[int, Path]:
        """The folders of its checkpoints by step, first step first."""
        return checkpoints_in(self.folder)

    @property
    def active(self) -> bool:
        """Whether the run waits or works."""
        return self.status in ACTIVE


def checkpoints_in(run_folder: Path) -> dict[int, Path]:
    """The folders of a run's checkpoints by step, first step first."""
    found = (run_folder / "checkpoints").glob("step-*")
    steps = {folder.name.removeprefix("step-"): folder for folder in found if folder.is_dir()}
    return {int(step): steps[step] for step in sorted(step for step in steps if step.isdecimal())}


def read_run(row: Any) -> Run:
    """The run in one row of the table."""
    values = {field.name: row[field.name] for field in fields(Run)}
    for name in ("config", "result", "versions"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return Run(**values)


def to_json(value: Any) -> str:
    """JSON with NaN and infinities; paths become text, numbers of NumPy and torch plain numbers."""
    return json.dumps(value, default=_plain)


def runs_folder() -> Path:
    """The folder with one folder a run. Made when missing.

    Raises:
        WorkbenchError: the home folder cannot be written to.
    """
    try:
        folder = home() / "runs"
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _not_writable(error) from error
    return folder


def make_folder() -> tuple[Path, float]:
    """Makes the folder of a new run; its name is the run's id, and the time in it comes along.

    The id is date and time in UTC and the part of the second in four hex digits, so ids sort by
    time. A folder can be made only once, so no two processes get the same id.
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


def one_line(error: BaseException) -> str:
    """The message of an error that the user can mend, type and message of any other."""
    message = " ".join(str(error).split())
    if isinstance(error, WorkbenchError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _not_writable(error: OSError) -> WorkbenchError:
    """What to tell a user whose home folder refuses a file."""
    return WorkbenchError(
        f"cannot write to {error.filename} ({error.strerror}); set WORKBENCH_HOME to a folder that you may write to"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be stored as JSON: {value!r}")
