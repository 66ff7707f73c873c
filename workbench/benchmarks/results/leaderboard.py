"""Leaderboards of stored evaluations; one board holds only results of the same measurement."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from workbench.benchmarks.results.record import Results, TaskScore


@dataclass
class Board:
    """Models measured on the same suite, version, data, prompts, shots and documents.

    Attributes:
        suite: Name of the suite.
        version: Its version.
        data: First 8 hex digits of a hash over the tasks' data hashes and versions.
        limit: Items a task at most; None for all.
        seed: Of the items and of few-shot examples.
        num_fewshot: Few-shot examples; None for each task's own number.
        tasks: The tasks scored.
        models: By model (name, hash): its headline rows by task, from its newest evaluation.
        runs: By model: the run of that evaluation.
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
        """The board as text, such as "core, version 1, 50 items a task, seed 0, data 1f2e3d4c"."""
        items = "all items" if self.limit is None else f"{self.limit} items a task"
        shots = "" if self.num_fewshot is None else f", {self.num_fewshot} shots"
        which = f"{self.suite}, version {self.version}"
        return f"{which}, {items}, seed {self.seed}{shots}, data {self.data}"


def leaderboard(evaluations: Iterable[tuple[str, Results]]) -> list[Board]:
    """Boards of evaluations, the board with the newest one first.

    Results share a board if suite, suite version, limit, seed, and every task's version and data
    hash (over documents, prompts and shots) are the same. Unfinished evaluations are left out.

    Args:
        evaluations: (run, results) pairs, newest first.
    """
    boards: dict[tuple[str, ...], Board] = {}
    for run, results in evaluations:
        config = results.config
        n_done = len(config.get("finished", [])) + len(results.skipped)
        if not results.rows or n_done < len(config.get("tasks", [])):
            continue
        measured = [config.get("data", {}), config.get("task_versions", {})]
        text = json.dumps(measured, sort_keys=True, default=str)
        data = hashlib.sha256(text.encode()).hexdigest()[:8]
        version = str(config.get("suite_version"))
        settings = config.get("limit"), config.get("seed") or 0, config.get("num_fewshot")
        key = (results.suite, version, data, *map(str, settings))
        headlines = {row.task: row for row in results.rows if row.headline}
        board = boards.setdefault(
            key, Board(results.suite, version, data, *settings, tasks=list(headlines))
        )
        model = results.subject, results.subject_hash
        if model not in board.models:
            board.models[model] = headlines
            board.runs[model] = run
    return list(boards.values())
