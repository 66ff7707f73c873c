"""How models are related: parents, fine-tunes, checkpoints and edits, from cards and runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.subjects import adapter, available
from workbench.subjects.card import read_card
from workbench.subjects.intervention import read_intervention
from workbench.training import Recipe
from workbench.training.recipe import names


@dataclass(frozen=True)
class Relative:
    """A model by the name that `load` accepts, and how it is related to another."""

    name: str
    how: str


def parent(name: str) -> str:
    """The model that a model was made from, by the name that `load` accepts; "" if unknown.

    No model is loaded.
    """
    try:
        if name.startswith("edit:"):
            return read_intervention(name.removeprefix("edit:")).base
        if name.startswith("run:"):
            return str(Store().get(_run(name)).config.get("base") or "")
        folder = _folder(name)
        if folder is None:
            return ""
        if adapter.is_adapter(folder):
            return adapter.base_of(folder).name
        return str(read_card(folder).get("parent") or "")
    except (WorkbenchError, OSError, ValueError):
        return ""


def relatives(name: str) -> list[Relative]:
    """A model's known relatives: its parent, models made from it, its run's other checkpoints."""
    related = []
    if source := parent(name):
        related.append(Relative(source, "what it was made from"))
    for other in available():
        if other.name != name and (own := parent(other.name)) and _key(own) == _key(name):
            related.append(
                Relative(other.name, "an edit of it" if other.kind == "edit" else "made from it")
            )
    if name.startswith("run:"):
        run = _run(name)
        steps = _checkpoints(run)
        newest = f"run:{run}@{steps[-1]}" if steps else ""
        whole = name if "@" in name else newest
        related += [
            Relative(f"run:{run}@{s}", f"step {s} of its run")
            for s in steps
            if f"run:{run}@{s}" != whole
        ]
    return list({r.name: r for r in related}.values())


def dependants(name: str) -> list[str]:
    """Names of the models that do not load without this one: made from it, or from parts of it."""
    key = _key(name)
    names = []
    for other in available():
        if _key(other.name) == key or other.kind not in ("run", "edit"):
            continue
        if key in {_key(source) for source in _sources(other.name) if source}:
            names.append(other.name)
    return names


def _sources(name: str) -> tuple[str, ...]:
    """The models that one is made from; a run's checkpoints stand on their own but for LoRA."""
    if name.startswith("edit:"):
        try:
            change = read_intervention(name.removeprefix("edit:"))
        except WorkbenchError:
            return ()
        return (change.base, change.transplant.donor if change.transplant else "")
    checkpoints = Store().get(_run(name)).checkpoints
    newest = checkpoints[max(checkpoints)]
    return (adapter.base_of(newest).name,) if adapter.is_adapter(newest) else ()


def lineage_pair(name: str) -> tuple[str, str]:
    """(base, tuned) to compare first: parent and model, else the model and one made from it."""
    if source := parent(name):
        return source, name
    children = [r.name for r in relatives(name)]
    return name, children[0] if children else name


def fine_tune_of(name: str) -> str:
    """The fine-tune that made a model, as "run:ID"; "" if no run in the store did."""
    if not name.startswith("run:"):
        return ""
    try:
        run = Store().get(_run(name))
    except WorkbenchError:
        return ""
    return f"run:{run.id}" if run.kind == "finetune" else ""


def making(name: str) -> tuple[Recipe, list[dict[str, Any]]] | None:
    """(recipe, changes) of a run or a bundled model; None if neither is known.

    The changes are those of a fine-tune on its held-out items, one row a metric. No model is
    loaded.
    """
    try:
        if name.startswith("run:"):
            run = Store().get(_run(name))
            return Recipe.from_dict(run.config), (run.result or {}).get("changes", [])
        return (Recipe.read(name), []) if name in names() else None
    except WorkbenchError:
        return None


def _run(name: str) -> str:
    return name.removeprefix("run:").partition("@")[0]


def _checkpoints(run: str) -> list[int]:
    try:
        return list(Store().get(run).checkpoints)
    except WorkbenchError:
        return []


def _folder(name: str) -> Path | None:
    places = [Path(name).expanduser(), paths.shelf("models") / name]
    if (more := paths.models_folder()) is not None:
        places.append(more / name)
    return next((place for place in places if place.is_dir()), None)


def _key(name: str) -> str:
    """The path of a model, so that names and paths compare equal; of a run, the run of any step."""
    if name.startswith("run:"):
        return f"run:{_run(name)}"
    places = [Path(name).expanduser(), paths.shelf("models") / name]
    if (more := paths.models_folder()) is not None:
        places += [more / name, more / f"{name}.gguf"]
    return next((str(place.resolve()) for place in places if place.exists()), name)
