"""Training: corpora, the pretraining loop, fine-tuning, and the recipes that describe them."""

from typing import TYPE_CHECKING, Any

from workbench.training.recipe import Recipe

if TYPE_CHECKING:
    from workbench.store import Run

__all__ = ["Recipe", "job_kind", "runner", "train"]


def train(recipe: "str | Recipe", **changes: Any) -> "Run":
    """Train or fine-tune as a recipe says, here and now, recorded as a run; `changes` replace words of `[train]`.

    `recipe` is a TOML file, a name on the `models/` shelf, or a `Recipe`. Gives the finished run; its model is
    `workbench.load("run:" + run.id)`.
    """
    from dataclasses import replace

    from workbench.store import Store

    found = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    found = replace(found, train=replace(found.train, **changes))
    store = Store()
    with store.record(job_kind(found), found.title, found.to_dict(), parent=None) as tracker:
        tracker.result = runner(found)(found.to_dict(), tracker)
    return store.get(tracker.run_id)


def job_kind(recipe: Recipe) -> str:
    """The store's word for a recipe's run: train or finetune."""
    return "train" if recipe.kind == "pretrain" else "finetune"


def runner(recipe: Recipe):
    """The function that carries a recipe out."""
    if recipe.kind == "pretrain":
        from workbench.training.pretrain import run_recipe
    else:
        from workbench.training.finetune import run_recipe
    return run_recipe
