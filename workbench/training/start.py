"""Starting, resuming and carrying out training runs."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.public import public
from workbench.training.changes import Changes, changed, with_changes
from workbench.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.store import Run, Store, Tracker

TRAINING = ("train", "finetune", "study")
"""The kinds of runs that `resume` takes."""


@public()
@with_changes
def train(recipe: "str | Path | Recipe", **changes: Unpack[Changes]) -> "Run":
    """Train or fine-tune by a recipe in this process, recorded as a run.

    Args:
        recipe: A TOML file, a name on the `models/` shelf, or a `Recipe`; its `kind` is pretrain
            or finetune.
        changes: Keys of `[train]` (see `Optimisation`) that override the recipe's.

    Returns:
        The finished run; its model is `workbench.load("run:" + run.id)`.

    Raises:
        WorkbenchError: For a recipe that cannot be read or carried out, or an unknown key.
    """
    from workbench.store import Store

    plan = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    plan = changed(plan, **changes)
    store = Store()
    return carry_out(start(plan, store), store)


def start(recipe: Recipe, store: "Store", parent: str | None = None) -> "Run":
    """A new queued run of a recipe, checked before anything is recorded.

    Args:
        recipe: Of any kind.
        store: Records the run.
        parent: The run or model that it descends from; else the recipe's base.

    Raises:
        WorkbenchError: For a recipe that could not be carried out.
    """
    from workbench.training.checks import check

    recipe = check(recipe)
    return store.create(
        job_kind(recipe), recipe.title, recipe.to_dict(), parent or parent_of(recipe)
    )


def once(recipe: Recipe, name: str, store: "Store", pause: float = 5.0) -> "Run":
    """The run with this tag: begun where there is none, else queued again, or as it ended.

    A machine that is started again after a preemption so goes on with what it began. While the run
    is under way elsewhere this waits, until it has ended or gives no sign of life any more.

    Args:
        recipe: What is trained; the run's own, where there is one.
        name: The tag.
        store: Records the run.
        pause: Seconds between two looks at a run that is under way.

    Raises:
        WorkbenchError: The tag is on a run of another recipe.
    """
    from workbench.store.run import to_json

    runs = [run for run in store.list(tag=name) if run.kind in TRAINING]
    if not runs:
        run = start(recipe, store)
        return store.tag(run.id, [name])
    run = runs[0]
    if run.config != json.loads(to_json(recipe.to_dict())):
        raise WorkbenchError(
            f"{name!r} is already the tag of run {run.id}, which has another recipe; choose "
            "another name."
        )
    while run.active:
        time.sleep(pause)
        run = store.get(run.id)
    return run if run.status == "done" else store.reopen(run.id, TRAINING)


@public()
def resume(run_id: str) -> "Run":
    """Resume an interrupted training run from its last checkpoint; returns the finished run.

    On the CPU the losses are the same to the last bit as without the interruption.

    Raises:
        WorkbenchError: For an unknown run, or one that is running or done.
    """
    from workbench.store import Store

    store = Store()
    return carry_out(store.reopen(run_id, TRAINING), store)


@own_modes
def carry_out(
    run: "Run", store: "Store", shown: "Callable[[Tracker], Any]" = lambda tracker: tracker
) -> "Run":
    """Carry out a queued training run in this process and return it finished.

    Args:
        run: From `start`.
        store: Where it is recorded.
        shown: May wrap the run's tracker, to show progress.
    """
    work = work_of(run)
    with store.running(store.begin(run.id)) as tracker:
        tracker.result = work(run.config, shown(tracker))
    return store.get(run.id)


def work_of(run: "Run") -> "Callable[[dict[str, Any], Any], dict[str, Any]]":
    """The function that carries out a training run: of one model, or a study of several."""
    if run.kind == "study":
        from workbench.training.study import run_recipe

        return run_recipe
    return runner(Recipe.from_dict(run.config))


def job_kind(recipe: Recipe) -> str:
    """The kind under which a recipe's run is stored: train or finetune."""
    return "train" if recipe.kind == "pretrain" else "finetune"


def parent_of(recipe: Recipe) -> str | None:
    """The parent of a fine-tune: the run that its base came from, else the base's name."""
    from workbench.store import Store

    if recipe.kind == "pretrain" or not recipe.base:
        return None
    run_id = recipe.base.removeprefix("run:").partition("@")[0]
    return Store().get(run_id).id if recipe.base.startswith("run:") else recipe.base


def runner(recipe: Recipe) -> "Callable[[dict[str, Any], Any], dict[str, Any]]":
    """The function that carries out a recipe of this kind."""
    if recipe.kind == "pretrain":
        from workbench.training.pretrain import run_recipe
    else:
        from workbench.training.finetune import run_recipe
    return run_recipe
