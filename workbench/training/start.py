"""Starting, resuming and carrying out training runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from workbench.modes import own_modes
from workbench.public import public
from workbench.training.changes import Changes, changed, with_changes
from workbench.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.store import Run, Store, Tracker

TRAINING = ("train", "finetune", "study")
"""The kinds of runs that `resume` goes on with."""


@public()
@with_changes
def train(recipe: "str | Path | Recipe", **changes: Unpack[Changes]) -> "Run":
    """Train or fine-tune as a recipe says, here and now, recorded as a run.

    Args:
        recipe: A TOML file, a name on the `models/` shelf, or a `Recipe`; its kind says pretrain or
            finetune.
        changes: Words of `[train]` (see `Optimisation`) in place of the recipe's own.

    Returns:
        The finished run; its model is `workbench.load("run:" + run.id)`.

    Raises:
        WorkbenchError: a recipe that cannot be read or carried out, or a word that `[train]` does
            not have.
    """
    from workbench.store import Store

    found = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    found = changed(found, **changes)
    store = Store()
    return carry_out(start(found, store), store)


def start(recipe: Recipe, store: "Store", parent: str | None = None) -> "Run":
    """The queued run of a recipe. Raises `WorkbenchError` before anything is recorded where it
    could not be done.
    """
    from workbench.training.checks import check

    recipe = check(recipe)
    return store.create(
        job_kind(recipe), recipe.title, recipe.to_dict(), parent or parent_of(recipe)
    )


@public()
def resume(run_id: str) -> "Run":
    """Go on with a run that was cut short, from its last checkpoint and as if nothing had happened.

    On the CPU the losses are the same to the last bit. Raises `WorkbenchError` for a run that is at
    work or done.
    """
    from workbench.store import Store

    store = Store()
    return carry_out(store.reopen(run_id, TRAINING), store)


@own_modes
def carry_out(
    run: "Run", store: "Store", shown: "Callable[[Tracker], Any]" = lambda tracker: tracker
) -> "Run":
    """Do the work of a queued training run in this process; `shown` may wrap its tracker."""
    work = work_of(run)
    with store.running(store.begin(run.id)) as tracker:
        tracker.result = work(run.config, shown(tracker))
    return store.get(run.id)


def work_of(run: "Run") -> "Callable[[dict[str, Any], Any], dict[str, Any]]":
    """The function that does a training run: one model, or a study of several."""
    if run.kind == "study":
        from workbench.training.study import run_recipe

        return run_recipe
    return runner(Recipe.from_dict(run.config))


def job_kind(recipe: Recipe) -> str:
    """The store's word for a recipe's run: train or finetune."""
    return "train" if recipe.kind == "pretrain" else "finetune"


def parent_of(recipe: Recipe) -> str | None:
    """What the store links a fine-tune to: the run that its base came from, else the base's name."""
    from workbench.store import Store

    if recipe.kind == "pretrain" or not recipe.base:
        return None
    run_id = recipe.base.removeprefix("run:").partition("@")[0]
    return Store().get(run_id).id if recipe.base.startswith("run:") else recipe.base


def runner(recipe: Recipe):
    """The function that carries a recipe out."""
    if recipe.kind == "pretrain":
        from workbench.training.pretrain import run_recipe
    else:
        from workbench.training.finetune import run_recipe
    return run_recipe
