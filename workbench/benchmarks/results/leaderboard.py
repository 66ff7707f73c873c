"""Leaderboards over stored evaluations: results stand in one board only where the very same thing
was measured.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from workbench.benchmarks.results.record import Results, TaskScore


@dataclass
class Board:
    """Models that were measured on one suite of one version, the same data, prompts, shots and
    documents.

    `models` maps a model's name and hash to its headline rows by task; of several evaluations the
    newest counts.
    """

    suite: str
    version: str
    data: str
    limit: int | None
    seed: int
    num_fewshot: int | None
    tasks: list[str]
    models: dict[tuple[str, str], dict[str, TaskScore]] = field(default_factory=dict)
    runs: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The board in words, such as "core, version 1, 50 items a task, seed 0, data 1f2e3d4c"."""
        items = "all items" if self.limit is None else f"{self.limit} items a task"
        shots = "" if self.num_fewshot is None else f", {self.num_fewshot} shots"
        return f"{self.suite}, version {self.version}, {items}, seed {self.seed}{shots}, data {self.data}"


def leaderboard(evaluations: Iterable[tuple[str, Results]]) -> list[Board]:
    """Boards over (run, results) pairs, given newest first; the board with the newest evaluation is
    first.

    Results belong together where suite, its version, every task's data hash (which is over
    documents, prompts and shots) and version, limit and seed are the same. Unfinished evaluations
    are left out.
    """
    boards: dict[tuple[str, ...], Board] = {}
    for run, results in evaluations:
        config = results.config
        if not results.rows or len(config.get("finished", [])) + len(results.skipped) < len(
            config.get("tasks", [])
        ):
            continue
        measured = [config.get("data", {}), config.get("task_versions", {})]
        data = hashlib.sha256(
            json.dumps(measured, sort_keys=True, default=str).encode()
        ).hexdigest()[:8]
        version = str(config.get("suite_version"))
        settings = config.get("limit"), config.get("seed") or 0, config.get("num_fewshot")
        key = (results.suite, version, data, *map(str, settings))
        headlines = {row.task: row for row in results.rows if row.headline}
        board = boards.setdefault(
            key, Board(results.suite, version, data, *settings, tasks=list(headlines))
        )
        model = results.subject, results.subject_hash
        if model not in board.models:
            board.models[model], board.runs[model] = headlines, run
    return list(boards.values())
