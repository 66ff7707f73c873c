"""Cache of model answers: one SQLite file beside the store, keyed by model and request."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.paths import home

PATIENCE = 30
"""Seconds that a writer waits for another writer."""
AT_ONCE = 500
"""Number of keys looked up in one statement."""
MOST = 4_000_000
"""Most answers in the file, about 550 MB of log-likelihoods; beyond it the oldest are deleted."""


class Answers:
    """Cached answers of one model, such as log-likelihoods; safe to share between processes.

    The first answer to a request is kept, so a repeated request gets the same answer to the bit.

    Args:
        model: Identifies the model and everything its answers depend on, such as weights hash and
            precision.
        origin: Who writes, such as a run id. Every answer knows whether this origin or an earlier
            one gave it.
        path: The file; the default is `answers.sqlite` in `WORKBENCH_HOME`.
        most: Most answers in the file, over all models; each further one replaces the oldest.

    Raises:
        WorkbenchError: The file cannot be written or is not a database.
    """

    def __init__(
        self, model: str, *, origin: str, path: Path | None = None, most: int = MOST
    ) -> None:
        self.model = model
        self.origin = origin
        self.most = most
        self.path = path or home() / "answers.sqlite"
        with self._usable():
            self._db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            # Row numbers grow without gaps, so they give the number of rows and the oldest ones.
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS given (number INTEGER PRIMARY KEY, key BLOB NOT NULL "
                "UNIQUE, answer TEXT NOT NULL, origin TEXT NOT NULL)"
            )
            # The table of an earlier version, which had no limit.
            self._db.execute("DROP TABLE IF EXISTS answers")

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Turns SQLite's errors inside the block into `WorkbenchError`."""
        try:
            yield
        except sqlite3.Error as error:
            raise WorkbenchError(
                f"{self.path} cannot hold cached answers ({error}); free some space or wait where "
                "it is full or busy, else remove it to start afresh."
            ) from error

    def key(self, request: Any) -> bytes:
        """The key of a request that can be written as JSON."""
        return hashlib.sha256(json.dumps([self.model, request]).encode()).digest()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, tuple[Any, bool]]:
        """(answer, whether this origin gave it) for each key that has an answer."""
        cached: dict[bytes, tuple[Any, bool]] = {}
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(part))
            with self._usable():
                query = f"SELECT key, answer, origin FROM given WHERE key IN ({marks})"
                rows = self._db.execute(query, part).fetchall()
            for key, answer, origin in rows:
                cached[key] = (json.loads(answer), origin == self.origin)
        return cached

    def put(self, answers: Iterable[tuple[bytes, Any]]) -> None:
        """Store answers, all or none; a key that has an answer keeps it."""
        rows = [(key, json.dumps(answer), self.origin) for key, answer in answers]
        with self._usable():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(
                    "INSERT OR IGNORE INTO given (key, answer, origin) VALUES (?, ?, ?)", rows
                )
                self._db.execute(
                    "DELETE FROM given WHERE number <= (SELECT max(number) FROM given) - ?",
                    (self.most,),
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()
