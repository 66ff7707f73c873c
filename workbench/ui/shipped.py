"""The bundled pair's evaluation, measured by the project: a first visit has scores to read before any click."""

import json
import shutil
from functools import cache

from workbench import paths
from workbench.store import Store

FOLDER = "shelf-evaluation"


@cache
def ensure() -> None:
    """Put the shipped evaluation into a store that holds none, as an ordinary finished run; once a process."""
    source = paths.shelf("models") / FOLDER
    store = Store()
    if not (source / "run.json").is_file() or store.list("eval", limit=1):
        return
    shipped = json.loads((source / "run.json").read_text(encoding="utf-8"))
    with store.record("eval", shipped["title"], shipped["config"]) as tracker:
        for name, found in shipped["result"]["models"].items():
            shutil.copytree(source / name, tracker.folder / name)
            found["folder"] = str(tracker.folder / name)
        tracker.result = shipped["result"]
        tracker.progress(1.0, "measured by the project and shipped with the models")
