"""A resumed run must use the data it began with: their hashes are stored in its folder."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.doors import read_object, writing
from workbench.errors import WorkbenchError

FILE = "data.json"


def fingerprint(examples: Iterable[Any]) -> str:
    """The SHA-256 of examples in order, over their `repr`."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(example).encode(errors="replace") + b"\0")
    return digest.hexdigest()


def require_same(folder: Path, *, going_on: bool, writes: bool, **hashes: str) -> None:
    """Store the hashes of a new run's data, or compare them when a run is resumed.

    Args:
        folder: Of the run.
        going_on: Whether the run is resumed, so that other data would not fit.
        writes: Whether this process writes; one of several that train together does.
        hashes: By what they are of: `corpus`, `base`, `examples`.

    Raises:
        WorkbenchError: When a hash differs from the one at the beginning of the run.
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
