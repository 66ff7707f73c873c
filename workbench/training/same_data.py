"""A run that goes on must learn from what it began with: the hashes of its data are kept in its
folder and compared.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.doors import read_object, writing
from workbench.errors import WorkbenchError

FILE = "data.json"


def fingerprint(examples: Iterable[Any]) -> str:
    """The SHA-256 of examples in their order, by their printed form."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(example).encode(errors="replace") + b"\0")
    return digest.hexdigest()


def require_same(folder: Path, *, going_on: bool, writes: bool, **hashes: str) -> None:
    """Write down the hashes of what a run learns from, or compare them where the run goes on.

    Args:
        folder: Of the run.
        going_on: Whether the run has learned or measured something already, which other data would
            not fit.
        writes: Whether this process writes; of several that train together one does.
        hashes: A hash by what it is of: `corpus`, `base`, `examples`.

    Raises:
        WorkbenchError: When one is another than at the run's beginning.
    """
    path = folder / FILE
    if not (going_on and path.is_file()):
        if writes:
            with writing(path) as part:
                part.write_text(json.dumps(hashes), encoding="utf-8")
        return
    before = read_object(path, "without it this run cannot be resumed: start a new one")
    for name, now in hashes.items():
        then = str(before.get(name, now))
        if then != now:
            raise WorkbenchError(
                f"With this {name} the run would no longer learn from the same as before (data "
                f"hash {now[:12]}, before {then[:12]}); put the old {name} back to resume it, or "
                "start a new run."
            )
