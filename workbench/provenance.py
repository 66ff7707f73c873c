"""Where a result came from: the call, the models with their hashes, the data's hashes, versions and
commit.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from workbench.paths import PACKAGE

PACKAGES = ("torch", "transformers", "transformer-lens", "lm-eval", "gpt-workbench")


@dataclass(frozen=True)
class Provenance:
    """What it takes to make a result again.

    - `function`: the public function that was called, `arguments` its settings, defaults written
      out; models and data are not among them
    - `models`: the sha256 of each model that was read, by its name
    - `data`: the sha256 of each text, probe, task or file that came in, by its name
    - `seed`: of whatever was drawn at random, None where nothing was
    - `versions`: of the libraries that shape a result; `commit`: of the checkout, None outside of
        one
    - `created`: the time in UTC, ISO 8601
    """

    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    created: str = ""


def provenance(
    function: str,
    arguments: Mapping[str, Any],
    *,
    models: Mapping[str, str],
    data: Mapping[str, str],
    seed: int | None,
) -> Provenance:
    """The provenance of a call that has just ended, with this machine's versions, commit and time."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Provenance(
        function, dict(arguments), dict(models), dict(data), seed, dict(versions()), commit(), now
    )


def data_hash(value: Any) -> str:
    """sha256 of data that came in: the bytes of a file, else the JSON of the text or the texts."""
    if isinstance(value, Path) or (isinstance(value, str) and _is_file(value)):
        return hashlib.sha256(Path(value).read_bytes()).hexdigest()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_file(text: str) -> bool:
    try:
        return len(text) < 4096 and "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):  # no name that a file could have
        return False


@cache
def commit() -> str | None:
    """The git commit of the checkout that this code runs from, None outside of one."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(PACKAGE.parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that shape a result, read without importing them."""
    return {name: number for name in PACKAGES if (number := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
