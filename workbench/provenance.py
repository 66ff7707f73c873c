"""Provenance of a result: the call, hashes of models and data, versions and commit."""

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
    """What is needed to reproduce a result.

    - `function`: the public function that was called
    - `arguments`: its settings with defaults written out, without models and data
    - `models`: sha256 of each model, by name
    - `data`: sha256 of each text, probe, task or file that was passed in, by name
    - `seed`: seed of random draws; None where nothing was random
    - `versions`: versions of the libraries that affect results
    - `commit`: git commit of the checkout; None outside of one
    - `created`: time in UTC, ISO 8601
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
    """The provenance of a call that has just ended, with current versions, commit and time.

    Args:
        function: Name of the public function.
        arguments: Its settings, in JSON's types.
        models: sha256 of each model, by name.
        data: sha256 of each input, by name.
        seed: Seed of random draws; None where nothing was random.
    """
    return Provenance(
        function=function,
        arguments=dict(arguments),
        models=dict(models),
        data=dict(data),
        seed=seed,
        versions=dict(versions()),
        commit=commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def data_hash(value: Any) -> str:
    """The sha256 of input data: of a file's bytes, of a text, or of the JSON of anything else."""
    if isinstance(value, Path) or (isinstance(value, str) and _is_file(value)):
        return hashlib.sha256(Path(value).read_bytes()).hexdigest()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_file(text: str) -> bool:
    try:
        return len(text) < 4096 and "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):  # not a possible file name
        return False


@cache
def commit() -> str | None:
    """The git commit of the checkout that this code runs from; None outside of one."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(PACKAGE.parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that affect results, read without importing them."""
    numbers = {name: _version(name) for name in PACKAGES}
    return {name: number for name, number in numbers.items() if number}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
