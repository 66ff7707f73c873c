"""Long readings: run one at a time in a thread; clients wait a little, then poll."""

import asyncio
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError
from workbench.serving.limits import ApiError

MOST_WAITING = 16
MOST_KEPT = 32
MOST_BYTES = 1 << 28
"""Maximum of stored answers; the oldest are dropped."""


class StoppedError(Exception):
    """The job was cancelled."""


@dataclass(eq=False)
class Job:
    """One reading; `work(job)` returns its record as JSON bytes and calls `report` meanwhile."""

    work: Callable[["Job"], bytes]
    id: str = field(default_factory=lambda: f"job-{secrets.token_hex(8)}")
    status: str = "queued"
    progress: float = 0.0
    message: str = ""
    record: bytes = b""
    error: ApiError | None = None
    created: float = field(default_factory=time.time)
    stopping: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def report(self, share: float, message: str = "") -> None:
        """Store the progress. Raises `StoppedError` if the job was cancelled."""
        if self.stopping:
            raise StoppedError
        self.progress = min(1.0, share)
        self.message = message

    def to_dict(self) -> dict[str, Any]:
        """The job's status, without its record."""
        status = {
            "id": self.id,
            "object": "job",
            "created": int(self.created),
            "status": self.status,
            "progress": round(self.progress, 4),
            "message": self.message,
        }
        return {**status, "error": self.error.to_dict()["error"] if self.error else None}


class Jobs:
    """The queue of jobs, and the answers stored until they are fetched or dropped."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._known: OrderedDict[str, Job] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[Job], bytes]) -> Job:
        """Queue a reading. Raises `ApiError` if the queue is full."""
        job = Job(work)
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise ApiError(
                    429,
                    f"{len(self._waiting)} readings wait already; ask again later.",
                    code="queue_full",
                )
            self._waiting.append(job)
            self._known[job.id] = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="readings", daemon=True)
                self._thread.start()
            self._changed.notify()
        return job

    def get(self, name: str) -> Job:
        """The job with this id. Raises `ApiError` for an unknown or dropped one."""
        with self._changed:
            if name not in self._known:
                raise ApiError(
                    404, f"There is no job {name!r}; old ones are forgotten.", code="job_not_found"
                )
            return self._known[name]

    def cancel(self, job: Job) -> None:
        """Cancel a job: a waiting one at once, a running one when it next reports progress."""
        job.stopping = True
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._end(job, "cancelled")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                job = self._waiting.popleft()
                job.status = "running"
            self._carry_out(job)

    def _carry_out(self, job: Job) -> None:
        status = "failed"
        try:
            job.report(0.0)
            job.record = job.work(job)
            job.progress = 1.0
            status = "done"
        except StoppedError:
            status = "cancelled"
        except ApiError as error:
            job.error = error
        except WorkbenchError as error:
            job.error = ApiError(400, str(error))
        except Exception:  # the thread must survive for the other jobs
            import logging

            logging.getLogger("workbench.serving").exception("The reading %s failed", job.id)
            job.error = ApiError(500, "This is a fault of the workbench; the log has the details.")
        with self._changed:
            self._end(job, status)

    def _end(self, job: Job, status: str) -> None:
        job.status = status
        job.ended.set()
        done = [known for known in self._known.values() if known.ended.is_set()]
        size = sum(len(known.record) for known in done)
        while done and (len(done) > MOST_KEPT or size > MOST_BYTES) and done[0] is not job:
            oldest = done.pop(0)
            size -= len(oldest.record)
            del self._known[oldest.id]


async def ended_within(job: Job, seconds: float) -> bool:
    """Whether a job ends within `seconds`; returns as soon as it does."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while not job.ended.is_set() and (left := deadline - time.monotonic()) > 0:
        await asyncio.sleep(min(pause, left))
        pause = min(0.1, 1.5 * pause)
    return job.ended.is_set()
