"""Checks before a run is recorded: the recipe against its schema, and whether its files exist."""

import re
from pathlib import Path

from workbench.data import fetched, sets
from workbench.data.files import rows
from workbench.doors import path_of
from workbench.errors import WorkbenchError
from workbench.remote import is_url
from workbench.subjects.names import stamp
from workbench.training import resources
from workbench.training.recipe import Recipe
from workbench.training.texts import MADE, check_url, files

HUB = r"[\w-][\w.-]*(/[\w.-]+)?"
"""Pattern of a Hugging Face data set id."""
BYTES_A_WEIGHT = 12
"""Least memory to train one weight: float32 weight, gradient and one optimiser moment."""
FILE_ENDINGS = (
    ".txt",
    ".md",
    ".json",
    ".jsonl",
    ".csv",
    ".tsv",
    ".parquet",
    ".conll",
    ".conllu",
    ".gz",
    ".zst",
)


def check(recipe: Recipe) -> Recipe:
    """The validated recipe; raises if its run is already known to fail.

    Raises:
        WorkbenchError: a key is unknown or wrong (all of them at once), a corpus or data file is
            missing, or a fine-tune lacks its base or its task.
    """
    recipe = recipe.checked()
    if recipe.kind == "pretrain":
        _check_size(recipe)
        for source in recipe.corpus.sources:
            _check_source(source)
        return recipe
    from workbench.training.finetune import make_task

    make_task(recipe)
    if recipe.base:
        stamp(recipe.base)
    for name in (recipe.task.get("data"), recipe.task.get("test")):
        if name:
            _check_data(str(name).strip())
    return recipe


def _check_size(recipe: Recipe) -> None:
    """Refuse a model that cannot fit into memory, before anything is allocated."""
    import psutil

    size = resources.n_planned(recipe.model, int(recipe.tokenizer.get("d_vocab", 1)))
    needed = size * BYTES_A_WEIGHT
    available = psutil.virtual_memory().total
    if needed > available:
        raise WorkbenchError(
            f"[model] of the recipe has {size:,} parameters, which need {needed / 1e9:,.0f} GB to "
            f"be trained; this machine has {available / 1e9:,.0f} GB. Make d_model, d_mlp, "
            "n_layers or d_vocab smaller."
        )


def _check_source(source: str) -> None:
    if source in MADE:
        return
    if is_url(source):
        check_url(source)
        return
    try:
        files(source)
    except WorkbenchError as error:
        if not _on_the_hub(source):
            raise WorkbenchError(str(error)) from error


def _check_data(name: str) -> None:
    """Raise for a missing file; the task checks sets and ids, as it knows their splits."""
    if is_url(name):
        next(rows(fetched.file_at(name)), None)
        return
    if name in sets.KNOWN or path_of(name).is_file():
        return
    if name.endswith(FILE_ENDINGS) or not re.fullmatch(HUB, name):
        next(rows(Path(name)), None)  # raises with what is wrong


def _on_the_hub(source: str) -> bool:
    """Whether `datasets` knows this id, on the hub or in its cache; no rows are read."""
    if source.endswith(FILE_ENDINGS) or not re.fullmatch(HUB, source):
        return False
    import datasets

    try:
        datasets.load_dataset_builder(source)
    except Exception:  # offline, unknown, gated: each library below has its own class
        return False
    return True
