"""Distributed runs: the first process records the run, the others compute and write nothing.

`torchrun --nproc-per-node 2 -m workbench ...` (or `accelerate launch`) starts the same command in
each process.
"""

import os
from pathlib import Path
from typing import Any


def follower() -> bool:
    """Whether this process has a rank above 0, so that another one records the run."""
    return int(os.environ.get("RANK", "0")) > 0


def several() -> bool:
    """Whether a launcher started more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


class Silent:
    """A tracker that writes nothing."""

    def __init__(self, folder: Path = Path()) -> None:
        self.folder = folder

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_words: False
