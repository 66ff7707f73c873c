"""The position-encoding study: one recipe trained five times, with nothing but the position
encoding changed.

`python -m workbench.training.study` trains the bundled five anew and puts them on the shelf.
"""

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Unpack

import torch

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.public import public
from workbench.store import Run, Store, Tracker
from workbench.subjects import load
from workbench.subjects.card import hash_files, write_card
from workbench.subjects.positions import ENCODINGS
from workbench.subjects.save import save
from workbench.training.changes import Changes, changed, with_changes
from workbench.training.checks import check
from workbench.training.recipe import Recipe
from workbench.training.start import carry_out, start


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Train a recipe with every encoding, each a run of its own whose parent is this one; taken up
    where it stopped.

    Returns `runs` (encoding to run id), `validation_loss` (encoding to nats a token) and the data
    hash they share.
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
            share = (i / len(ENCODINGS), 1 / len(ENCODINGS), encoding)
            run = carry_out(run, store, lambda child, share=share: _Part(child, tracker, *share))
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


class _Part:
    """A child's tracker that also moves the study's bar, and stops when the study is asked to."""

    def __init__(self, child: Tracker, study: Tracker, low: float, size: float, name: str) -> None:
        self._child = child
        self._study = study
        self._low = low
        self._size = size
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._child, name)

    def progress(self, fraction: float, message: str = "") -> None:
        self._child.progress(fraction, message)
        self._study.progress(self._low + fraction * self._size, f"{self._name}: {message}")


SHELF = "shelf-positions"


def shelve(study: Run, folder: Path) -> None:
    """Put a finished study's five models into a folder, in half precision, each with its card."""
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
    """Train a recipe once with each position encoding; `result["runs"]` of the run names the five.

    `recipe` and `changes` are those of `train`.
    """
    found = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    found = check(changed(found, **changes))
    store = Store()
    with store.record("study", f"{found.title}: five encodings", found.to_dict()) as tracker:
        tracker.result = run_recipe(found.to_dict(), tracker)
    return store.get(tracker.run_id)


if __name__ == "__main__":
    shelve(
        train_encodings(SHELF),
        Path(*sys.argv[1:]) if sys.argv[1:] else paths.shelf("models") / SHELF,
    )
