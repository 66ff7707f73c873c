"""What models have answered before: one SQLite file beside the store, by model and request, written
batch by batch.
"""

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
"""Seconds that a writer waits for another one."""
AT_ONCE = 500
"""Keys looked up in one statement."""
MOST = 4_000_000
"""Answers that are kept, about 550 MB of log-likelihoods; beyond them the oldest go."""


class Answers:
    """Answers of one model, such as log-likelihoods of requests; safe to share between processes.

    The first answer to a request stays: what is asked again is given again, to the last bit.

    Args:
        model: What identifies the model and everything that its answers depend on, such as hash and
            precision.
        origin: Who writes, such as a run; an answer knows whether this origin or an earlier one
            gave it.
        path: The file; else `answers.sqlite` in `WORKBENCH_HOME`.
        most: Answers that the file keeps, of all models; each new one beyond them takes the place
            of the oldest.

    Raises:
        WorkbenchError: the file cannot be written or is no database.
    """

    def __init__(
        self, model: str, *, origin: str, path: Path | None = None, most: int = MOST
    ) -> None:
        self.model, self.origin, self.most = model, origin, most
        path = path or home() / "answers.sqlite"
        self.path = path
        with self._usable():
            self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            # Row numbers grow with time and have no gaps, so they say how many rows there are and
            # which are oldest.
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS given (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, "
                "answer TEXT NOT NULL, origin TEXT NOT NULL)"
            )
            self._db.execute(
                "DROP TABLE IF EXISTS answers"
            )  # of an earlier version, which kept everything

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Within it, what SQLite says of its file is a sentence."""
        try:
            yield
        except sqlite3.Error as error:
            raise WorkbenchError(
                f"{self.path} cannot hold cached answers ({error}); free some space or wait where it is full or busy, "
                "else remove it to start afresh."
            ) from error

    def key(self, request: Any) -> bytes:
        """The key of a request, which JSON can hold."""
        return hashlib.sha256(json.dumps([self.model, request]).encode()).digest()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, tuple[Any, bool]]:
        """(answer, whether this origin gave it) of the keys that have one."""
        found: dict[bytes, tuple[Any, bool]] = {}
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(part))
            with self._usable():
                query = f"SELECT key, answer, origin FROM given WHERE key IN ({marks})"
                rows = self._db.execute(query, part).fetchall()
            found |= {
                key: (json.loads(answer), origin == self.origin) for key, answer, origin in rows
            }
        return found

    def put(self, answers: Iterable[tuple[bytes, Any]]) -> None:
        """Keep answers, all or none; keys that have one keep it."""
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
