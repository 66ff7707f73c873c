"""The position-encoding study: one recipe trained five times, differing in position encoding only.

`python -m workbench.training.study` retrains the five bundled models and puts them on the shelf.
"""

import sys
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.public import public
from workbench.store import Run, Store, Tracker
from workbench.store.tracker import Wrapped
from workbench.subjects import load
from workbench.subjects.card import hash_files, write_card
from workbench.subjects.positions import ENCODINGS
from workbench.subjects.save import save
from workbench.training.changes import Changes, changed, with_changes
from workbench.training.checks import check
from workbench.training.recipe import Recipe
from workbench.training.start import carry_out, start


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Train a recipe with every encoding, each as a child run; resumes unfinished ones.

    Args:
        config: A pretraining recipe as a dictionary.
        tracker: Of the study's run.

    Returns:
        `runs` (run id by encoding), `validation_loss` (nats per token by encoding) and the hash of
        the data they share.
    """
    recipe = Recipe.from_dict(config)
    store = Store()
    if recipe.kind != "pretrain":
        raise WorkbenchError(
            f"{recipe.title} is a fine-tune; a study of encodings needs a recipe that pretrains."
        )
    known = {
        run.config["model"]["positions"]: run
        for run in store.list("train", 500)
        if run.parent == tracker.run_id
    }
    done: dict[str, Run] = {}
    for i, encoding in enumerate(ENCODINGS):
        run = known.get(encoding)
        if run is None or run.status != "done":
            run = (
                store.reopen(run.id)
                if run
                else start(_variant(recipe, encoding), store, parent=tracker.run_id)
            )
            part = partial(
                _Part, study=tracker, low=i / len(ENCODINGS), size=1 / len(ENCODINGS), name=encoding
            )
            run = carry_out(run, store, part)
        done[encoding] = run
    results = {encoding: run.result or {} for encoding, run in done.items()}
    return {
        "runs": {encoding: run.id for encoding, run in done.items()},
        "validation_loss": {
            encoding: result["validation_loss"] for encoding, result in results.items()
        },
        "data_hash": results[ENCODINGS[0]]["data_hash"],
    }


def _variant(recipe: Recipe, encoding: str) -> Recipe:
    return replace(
        recipe, title=f"{recipe.title}, {encoding}", model={**recipe.model, "positions": encoding}
    )


class _Part(Wrapped):
    """A child run's tracker that also moves the study's progress, and stops when the study does."""

    def __init__(self, child: Tracker, study: Tracker, low: float, size: float, name: str) -> None:
        super().__init__(child)
        self._study = study
        self._low = low
        self._size = size
        self._name = name

    def progress(self, fraction: float, message: str = "") -> None:
        super().progress(fraction, message)
        self._study.progress(self._low + fraction * self._size, f"{self._name}: {message}")


SHELF = "shelf-positions"


def shelve(study: Run, folder: Path) -> None:
    """Save a finished study's models into a folder, in half precision, each with its card."""
    results = study.result or {}
    for encoding, run_id in results["runs"].items():
        subject = load(f"run:{run_id}")
        target = folder / encoding
        save(target, subject.model, subject.tokenizer, dtype=torch.float16)
        run = Store().get(run_id)
        facts = {
            "name": f"{SHELF}/{encoding}",
            "source": "bundled",
            "sha256": hash_files(target.glob("*.safetensors")),
            "created": date.today().isoformat(),
            "command": "python -m workbench.training.study",
            "data": (
                f"{', '.join(run.config['corpus']['sources'])}; data hash {results['data_hash']}"
            ),
            "metrics": {
                "validation_loss_nats": results["validation_loss"][encoding],
                "steps": run.config["train"]["steps"],
                "tokens": (run.result or {})["tokens"],
            },
        }
        write_card(target, {**subject.card.to_dict(), **facts})


@public()
@with_changes
@own_modes
def train_encodings(recipe: str | Path | Recipe, **changes: Unpack[Changes]) -> Run:
    """Train a recipe once with each position encoding; returns the study's run.

    Args:
        recipe: As for `train`; it must pretrain.
        changes: As for `train`.

    Returns:
        The finished run; its `result["runs"]` gives the run id of each encoding.
    """
    plan = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    plan = check(changed(plan, **changes))
    store = Store()
    with store.record("study", f"{plan.title}: five encodings", plan.to_dict()) as tracker:
        tracker.result = run_recipe(plan.to_dict(), tracker)
    return store.get(tracker.run_id)


if __name__ == "__main__":
    shelve(
        train_encodings(SHELF),
        Path(*sys.argv[1:]) if sys.argv[1:] else paths.shelf("models") / SHELF,
    )
