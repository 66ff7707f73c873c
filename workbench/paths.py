"""Paths: the folders of pages, probes and models, the user's home folder, and offline data."""

import os
from pathlib import Path

from workbench.errors import WorkbenchError

PACKAGE = Path(__file__).resolve().parent


def shelf(name: str) -> Path:
    """The folder `pages`, `probes` or `models`: beside the package, or inside it in a wheel."""
    bundled = PACKAGE / "bundled" / name
    return bundled if bundled.is_dir() else PACKAGE.parent / name


def home() -> Path:
    """The folder of runs and the store: `WORKBENCH_HOME`, else `~/.workbench`; made when missing.

    Raises:
        WorkbenchError: The folder is a file, or cannot be made.
    """
    folder = Path(os.environ.get("WORKBENCH_HOME") or Path.home() / ".workbench").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"cannot write to the home folder {folder} ({error.strerror}); set WORKBENCH_HOME to a "
            "folder that you may write to."
        ) from error
    return folder


def data_folder() -> Path | None:
    """The folder of offline data sets named by `WORKBENCH_DATA`, or None."""
    return _folder("WORKBENCH_DATA")


def models_folder() -> Path | None:
    """The folder of offline weights named by `WORKBENCH_MODELS`, or None."""
    return _folder("WORKBENCH_MODELS")


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable)
    folder = Path(value).expanduser() if value else None
    return folder if folder and folder.is_dir() else None
