"""Where things are: the shelves (pages, probes, models) in a checkout or a wheel, the user's home, the data."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shelf(name: str) -> Path:
    """The folder `pages`, `probes` or `models`: beside the package in a checkout, inside it in a wheel."""
    bundled = PACKAGE / "bundled" / name
    return bundled if bundled.is_dir() else PACKAGE.parent / name


def home() -> Path:
    """Where runs and the store live: `WORKBENCH_HOME`, else `~/.workbench`. Made when missing."""
    folder = Path(os.environ.get("WORKBENCH_HOME") or Path.home() / ".workbench").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def data_folder() -> Path | None:
    """The folder of offline data sets that `WORKBENCH_DATA` names, or None."""
    return _folder("WORKBENCH_DATA")


def models_folder() -> Path | None:
    """The folder of offline weights that `WORKBENCH_MODELS` names, or None."""
    return _folder("WORKBENCH_MODELS")


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable)
    folder = Path(value).expanduser() if value else None
    return folder if folder and folder.is_dir() else None
