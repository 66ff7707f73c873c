"""Distributed runs: the first process records the run, the others compute and write nothing.

`torchrun --nproc-per-node 2 -m workbench ...` (or `accelerate launch`) starts the same command in
each process.
"""

import os
from pathlib import Path

from workbench.store.tracker import Tracker


def follower() -> bool:
    """Whether this process has a rank above 0, so that another one records the run."""
    return int(os.environ.get("RANK", "0")) > 0


def several() -> bool:
    """Whether a launcher started more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


class Silent(Tracker):
    """A tracker that writes nothing and is never asked to stop."""

    def __init__(self, folder: Path = Path()) -> None:
        self.run_id = ""
        self.folder = folder

    def progress(self, fraction: float, message: str = "") -> None:
        """Does nothing."""

    def log(self, step: int, **metrics: float) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def forget(self, after: int) -> None:
        """Does nothing."""

    def should_stop(self) -> bool:
        """False."""
        return False

    def close(self) -> None:
        """Does nothing."""
