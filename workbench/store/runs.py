"""The store: a row, metrics and a folder for each run of a recipe, evaluation or comparison."""

import os
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, or_, select, update

from workbench.errors import WorkbenchError
from workbench.store import copies, processes
from workbench.store.copier import Copier
from workbench.store.labels import Labels
from workbench.store.run import (
    ACTIVE,
    UNENDED,
    Run,
    make_folder,
    one_line,
    read_run,
    runs_folder,
    to_json,
)
from workbench.store.shares import ATTEMPT, Shares, here
from workbench.store.tables import metrics, open_engine, runs
from workbench.store.tables import tags as tag_table
from workbench.store.tracker import Stopped, Terminated, Tracker

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]
Runs = list[Run]

DYING = 3.0
"""Seconds to wait for the process of a run that is about to be resumed to exit."""
LOST = 600.0
"""Seconds without heartbeat after which a run on another host counts as dead."""


class Store(Labels, Shares):
    """The database of runs; cheap to open, safe to share between threads, processes and pages.

    Args:
        url: A path or any SQLAlchemy URL; the default is `WORKBENCH_STORE`, else `store.sqlite` in
            `WORKBENCH_HOME`.

    Raises:
        WorkbenchError: The database or the home folder cannot be used, or a newer workbench wrote
            it.

    Usage:
        store = Store()
        with store.record("eval", "shelf-base on core", {"suite": "core"}) as tracker:
            tracker.progress(0.5, "half way")
            tracker.log(1, acc=0.31)
            tracker.result = {"acc": 0.31}
        print(store.list()[0].status)
    """

    def __init__(self, url: str | Path | None = None) -> None:
        url = str(url or os.environ.get("WORKBENCH_STORE") or runs_folder().parent / "store.sqlite")
        self.url = url if "://" in url else f"sqlite:///{Path(url).expanduser().resolve()}"
        self._engine = open_engine(self.url)

    # -- for pages, commands and notebooks ------------------------------------------------------

    def create(
        self, kind: str, title: str, config: dict[str, Any], parent: str | None = None
    ) -> Run:
        """Adds a queued run and its folder; it belongs to this process until a worker takes it.

        Args:
            kind: Kind of run, such as "eval"; a key of `jobs.KINDS` for background runs.
            title: Title shown in lists of runs.
            config: Settings of the run; anything that can be written as JSON.
            parent: Id of the run that this one continues.
        """
        values = {
            "kind": kind,
            "title": title,
            "config": to_json(config),
            "parent": parent,
            **here(),
        }
        folder, now = make_folder()
        row = {"id": folder.name, "status": "queued", "created": now, "heartbeat": now, **values}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(runs).values(row))
        except BaseException:
            folder.rmdir()
            raise
        return self.get(folder.name)

    def get(self, run_id: str) -> Run:
        """The run with this id, or the only run whose id begins with it.

        Raises:
            WorkbenchError: There is no such run, or there are several.
        """
        self.reconcile()
        query = (
            select(runs).where(runs.c.id.startswith(run_id, autoescape=True)).order_by(runs.c.id)
        )
        matches = self._select(query.limit(4)) if run_id else []
        if matches and (len(matches) == 1 or matches[0].id == run_id):
            return matches[0]
        some = ", ".join(run.id for run in (matches or self.list(limit=3))[:3])
        if matches:
            raise WorkbenchError(
                f"several runs begin with {run_id!r} ({some} ...); give more of the id"
            )
        hint = f"the newest are {some}" if some else "the store holds no runs yet"
        raise WorkbenchError(f"there is no run {run_id!r}; {hint}")

    def list(
        self, kind: str | None = None, limit: int = 50, *, search: str = "", tag: str = ""
    ) -> Runs:
        """Runs, newest first.

        Args:
            kind: Only those of this kind.
            limit: At most so many.
            search: Only those with this text in their title, id or settings, in any case.
            tag: Only those with this tag.
        """
        self.reconcile()
        query = select(runs).order_by(runs.c.created.desc(), runs.c.id.desc()).limit(limit)
        if kind:
            query = query.where(runs.c.kind == kind)
        if search.strip():
            columns = (runs.c.title, runs.c.id, runs.c.config)
            query = query.where(
                or_(*(c.icontains(search.strip(), autoescape=True) for c in columns))
            )
        if tag:
            query = query.where(
                runs.c.id.in_(select(tag_table.c.run_id).where(tag_table.c.tag == tag))
            )
        return self._select(query)

    def metrics(self, run_id: str) -> "pd.DataFrame":
        """Everything the run logged, in order: columns step, name, value, time (unix seconds)."""
        import pandas as pd  # takes a second to import, and most commands never need it

        columns = (metrics.c.step, metrics.c.name, metrics.c.value, metrics.c.time)
        query = (
            select(*columns)
            .where(metrics.c.run_id == self.get(run_id).id, metrics.c.name != ATTEMPT)
            .order_by(metrics.c.id)
        )
        with self._engine.connect() as connection:
            table = pd.read_sql(query, connection)
        return table.astype({"step": int, "value": float, "time": float})

    def reopen(self, run_id: str, kinds: Sequence[str] = ()) -> Run:
        """Queues an interrupted, failed or cancelled run again; its folder and metrics are kept.

        Where its process was killed a moment ago, this waits until the process is gone.

        Args:
            run_id: The run's id, or the beginning of it.
            kinds: Kinds of run that the caller can resume; empty for all.

        Raises:
            WorkbenchError: The run is active, done, or of another kind; it is left unchanged.
        """
        run = self.get(run_id)
        if kinds and run.kind not in kinds:
            command = "eval" if run.kind == "eval" else "train"
            raise WorkbenchError(
                f"run {run.id} is of the kind {run.kind}, and this goes on with "
                f"{' or '.join(kinds)}; use workbench {command} --resume {run.id}"
            )
        run = self._settled(run)
        ended = runs.c.status.in_(("cancelled", "failed", "interrupted"))
        fresh = {
            "status": "queued",
            "stop": False,
            "error": None,
            "ended": None,
            "heartbeat": time.time(),
        }
        if not self.set(run.id, ended, **fresh, **here()):
            raise WorkbenchError(
                f"run {run.id} is {self.get(run.id).status}; only a run that was cut short can be "
                "resumed"
            )
        self.forget_attempts(run.id)
        run.folder.mkdir(exist_ok=True)  # the run may be another machine's
        return self.get(run.id)

    def _settled(self, run: Run) -> Run:
        """The run once it is no longer active, or after `DYING` seconds."""
        end = time.monotonic() + DYING
        while run.active and time.monotonic() < end:
            time.sleep(0.05)
            run = self.get(run.id)
        return run

    def forget_metrics(self, run_id: str, after: int) -> None:
        """Deletes the metrics of later steps, which a resumed run is about to repeat."""
        later = (metrics.c.run_id == run_id) & (metrics.c.step > after)
        with self._engine.begin() as connection:
            connection.execute(delete(metrics).where(later))

    def delete(self, run_id: str) -> None:
        """Deletes a run that has ended: its folder, its metrics and its row.

        Raises:
            WorkbenchError: The run is active.
        """
        run = self.get(run_id)
        if run.active:
            raise WorkbenchError(f"run {run.id} is {run.status}; cancel it before you delete it")
        copies.delete(run)
        if run.folder.exists():
            shutil.rmtree(run.folder)
        with self._engine.begin() as connection:
            connection.execute(delete(metrics).where(metrics.c.run_id == run.id))
            connection.execute(delete(tag_table).where(tag_table.c.run_id == run.id))
            connection.execute(delete(runs).where(runs.c.id == run.id))

    def tracker(self, run_id: str) -> Tracker:
        """The tracker through which a run is written; close it at the end."""
        run = self.get(run_id)
        return Tracker(self, run.id, run.folder)

    @contextmanager
    def record(
        self, kind: str, title: str, config: dict[str, Any], parent: str | None = None
    ) -> Iterator[Tracker]:
        """Records the block as a run in this process: done at its end, else failed or cancelled.

        Args:
            kind: Kind of run, such as "eval".
            title: Title shown in lists of runs.
            config: Settings of the run; anything that can be written as JSON.
            parent: Id of the run that this one continues.
        """
        run = self.begin(self.create(kind, title, config, parent).id)
        with self.running(run) as tracker:
            yield tracker

    # -- for workers and jobs -------------------------------------------------------------------

    def begin(self, run_id: str) -> Run:
        """Marks a run as running in this process and returns it.

        Raises:
            Stopped: The run was cancelled before it began, or has ended.
        """
        if not self.take(run_id):
            self.finish(run_id, "cancelled")
            raise Stopped(f"run {run_id} was cancelled before it began")
        return self.get(run_id)

    @contextmanager
    def running(self, run: Run) -> Iterator[Tracker]:
        """Records how the block of a running run ends; exceptions are passed on."""
        tracker = Tracker(self, run.id, run.folder)
        copier = Copier(run)
        try:
            if copier.copies:
                tracker.should_stop()  # from now on it gives signs of life, however long files take
            copier.start()
            yield tracker
            copier.close()
            tracker.close()
            where = copier.outcome()
            result = {**(tracker.result or {}), **where} if where else tracker.result
            self.finish(run.id, "done", result=to_json(result), progress=1.0)
        except Exception as error:
            with (run.folder / "log.txt").open("a") as log:
                log.write(
                    one_line(error) + "\n"
                    if isinstance(error, WorkbenchError)
                    else traceback.format_exc()
                )
            copier.close()
            tracker.close()
            self.finish(run.id, "failed", error=one_line(error))
            raise
        except BaseException as error:
            copier.close()
            tracker.close()
            if isinstance(error, Terminated) and not tracker.should_stop():
                self.finish(run.id, "interrupted", error=one_line(error))
            else:
                self.finish(run.id, "cancelled")
            raise

    def finish(self, run_id: str, status: str, **values: Any) -> None:
        """Ends a run with this status; one that has ended already is left unchanged."""
        unfinished = runs.c.status.in_(UNENDED)
        self.set(run_id, unfinished, status=status, ended=time.time(), **values)

    def ask_to_stop(self, run_id: str) -> None:
        """Makes the run's next `Tracker.progress` raise `Stopped`."""
        self.set(run_id, runs.c.status.in_(ACTIVE), stop=True)

    def hand_over(self, run_id: str, pid: int) -> None:
        """Assigns a queued run to the worker process that is starting."""
        self.set(run_id, runs.c.status == "queued", **processes.identity(pid))

    def reconcile(self) -> None:
        """Marks runs whose process is gone as cancelled (if asked to stop) or interrupted."""
        columns = (
            runs.c.id,
            runs.c.pid,
            runs.c.pid_started,
            runs.c.host,
            runs.c.heartbeat,
            runs.c.stop,
        )
        with self._engine.connect() as connection:
            active = connection.execute(select(*columns).where(runs.c.status.in_(ACTIVE))).all()
        for run in active:
            if _lives(run):
                continue
            end = {
                "status": "interrupted",
                "error": "the process went away without a word; its log may say why",
            }
            # The worker may have ended or taken over the run since the row was read.
            unchanged = runs.c.status.in_(ACTIVE) & (runs.c.pid == run.pid)
            self.set(
                run.id,
                unchanged,
                ended=time.time(),
                **({"status": "cancelled"} if run.stop else end),
            )

    def write(self, run_id: str, rows: Rows, values: dict[str, Any]) -> bool:
        """Writes metrics and columns of a run; returns whether a stop was requested.

        Args:
            run_id: The run's full id.
            rows: Rows of the metrics table.
            values: Columns of the run's row.
        """
        if rows or values:
            with self._engine.begin() as connection:
                if rows:
                    connection.execute(insert(metrics), rows)
                if values:
                    connection.execute(update(runs).where(runs.c.id == run_id).values(values))
        with self._engine.connect() as connection:
            return bool(connection.scalar(select(runs.c.stop).where(runs.c.id == run_id)))

    def set(self, run_id: str, condition: Any, /, **values: Any) -> bool:
        """Sets columns of a run if a condition on its row holds; returns whether it held."""
        query = update(runs).where(runs.c.id == run_id, condition).values(values)
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount > 0

    def _select(self, query: Any) -> Runs:
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
            wanted = select(tag_table).where(tag_table.c.run_id.in_([row["id"] for row in rows]))
            tags_of: dict[str, list[str]] = {}
            for run_id, tag in connection.execute(wanted):
                tags_of.setdefault(run_id, []).append(tag)
        return [read_run(row, tags_of.get(row["id"], ())) for row in rows]


def _lives(run: Any) -> bool:
    if run.host != processes.HOST:
        return time.time() - run.heartbeat < LOST
    return processes.alive(run.pid, run.pid_started)
