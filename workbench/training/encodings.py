"""The position-encoding study: one recipe trained five times, with nothing but the position encoding changed."""

from dataclasses import replace
from typing import Any

from workbench.errors import WorkbenchError
from workbench.store import Run, Store, Tracker
from workbench.subjects.positions import ENCODINGS
from workbench.training import carry_out, start
from workbench.training.recipe import Recipe


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Train a recipe with every encoding, each a run of its own whose parent is this one; taken up where it stopped.

    Returns `runs` (encoding to run id), `validation_loss` (encoding to nats a token) and the data hash they share.
    """
    recipe, store = Recipe.from_dict(config), Store()
    if recipe.kind != "pretrain":
        raise WorkbenchError(f"{recipe.title} is a fine-tune; a study of encodings needs a recipe that pretrains.")
    known = {run.config["model"]["positions"]: run for run in store.list("train", 500) if run.parent == tracker.run_id}
    done: dict[str, Run] = {}
    for i, encoding in enumerate(ENCODINGS):
        run = known.get(encoding)
        if run is None or run.status != "done":
            run = store.reopen(run.id) if run else start(_variant(recipe, encoding), store, parent=tracker.run_id)
            share = (i / len(ENCODINGS), 1 / len(ENCODINGS), encoding)
            run = carry_out(run, store, lambda child, share=share: _Part(child, tracker, *share))
        done[encoding] = run
    results = {encoding: run.result or {} for encoding, run in done.items()}
    return {
        "runs": {encoding: run.id for encoding, run in done.items()},
        "validation_loss": {encoding: result["validation_loss"] for encoding, result in results.items()},
        "data_hash": results[ENCODINGS[0]]["data_hash"],
    }


def _variant(recipe: Recipe, encoding: str) -> Recipe:
    return replace(recipe, title=f"{recipe.title}, {encoding}", model={**recipe.model, "positions": encoding})


class _Part:
    """A child's tracker that also moves the study's bar, and stops when the study is asked to."""

    def __init__(self, child: Tracker, study: Tracker, low: float, size: float, name: str) -> None:
        self._child, self._study, self._low, self._size, self._name = child, study, low, size, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._child, name)

    def progress(self, fraction: float, message: str = "") -> None:
        self._child.progress(fraction, message)
        self._study.progress(self._low + fraction * self._size, f"{self._name}: {message}")
