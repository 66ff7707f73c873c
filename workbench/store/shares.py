"""Runs that many workers share out among themselves: each is claimed by one."""

import os
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, delete, func, select

from workbench.provenance import commit, versions
from workbench.store import processes
from workbench.store.run import Run, to_json
from workbench.store.tables import metrics, runs

ATTEMPT = "attempt"
"""The metric that counts how often a worker has claimed a run."""


class Shares:
    """The part of `Store` by which workers share out runs."""

    _engine: Engine
    _select: Callable[[Any], list[Run]]
    reconcile: Callable[[], None]
    set: Callable[..., bool]
    write: Callable[..., bool]

    def children(self, run_id: str) -> list[Run]:
        """All runs whose parent is this one, oldest first."""
        self.reconcile()
        query = select(runs).where(runs.c.parent == run_id)
        return self._select(query.order_by(runs.c.created, runs.c.id))

    def take(self, run_id: str) -> bool:
        """Marks a waiting run as running in this process; False where it is not waiting."""
        # A run is marked interrupted when the app that queued it dies before its worker starts.
        waiting = runs.c.status.in_(("queued", "interrupted")) & runs.c.stop.is_(False)
        now = time.time()
        fresh = {"status": "running", "started": now, "heartbeat": now, "ended": None}
        return self.set(run_id, waiting, error=None, **fresh, **here())

    def claim(self, run_id: str) -> bool:
        """Takes a waiting run and counts the attempt; False where another was faster."""
        if not self.take(run_id):
            return False
        row = {"run_id": run_id, "step": 0, "name": ATTEMPT, "value": 1.0, "time": time.time()}
        self.write(run_id, [row], {})
        return True

    def attempts(self, run_id: str) -> int:
        """How often a run has been claimed since it was last queued by hand."""
        query = select(func.count()).where(_attempts_of(run_id))
        with self._engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def forget_attempts(self, run_id: str) -> None:
        """Begins to count anew how often a run has been claimed."""
        with self._engine.begin() as connection:
            connection.execute(delete(metrics).where(_attempts_of(run_id)))


def _attempts_of(run_id: str) -> Any:
    return (metrics.c.run_id == run_id) & (metrics.c.name == ATTEMPT)


def here() -> dict[str, Any]:
    """The columns that say which process and which version of the code a run has."""
    code = {"commit": commit(), "versions": to_json(versions())}
    return {**processes.identity(os.getpid()), **code}
