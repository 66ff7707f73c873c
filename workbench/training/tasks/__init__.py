"""The tasks to fine-tune a Subject on: how each is read, rendered, answered and scored."""

from typing import Any

from workbench.data.sets import SETS
from workbench.errors import WorkbenchError
from workbench.training.tasks.chat import Chat
from workbench.training.tasks.classification import Classification
from workbench.training.tasks.entities import Entities
from workbench.training.tasks.questions import Questions
from workbench.training.tasks.rewriting import Rewriting
from workbench.training.tasks.task import Data, Item, Task

__all__ = ["KINDS", "SETS", "Data", "Item", "Task", "make"]

KINDS: dict[str, type[Task]] = {
    kind.kind: kind for kind in (Classification, Entities, Questions, Chat, Rewriting)
}


def make(options: dict[str, Any]) -> Task:
    """The task of a recipe.

    Args:
        options: The `[task]` table. Without `kind`, the data set's own kind is taken, else
            classification.

    Raises:
        WorkbenchError: For an unknown kind or key, or a data set of another kind.
    """
    known = SETS.get(str(options.get("data", "")))
    kind = options.get("kind") or (known.kind if known else Classification.kind)
    if kind not in KINDS:
        raise WorkbenchError(f"[task] has kind {kind!r}; it must be one of {', '.join(KINDS)}.")
    if known and known.kind != kind:
        raise WorkbenchError(
            f"{options['data']} is a set for {known.kind}, and [task] has kind {kind!r}; change "
            "one."
        )
    return KINDS[kind]({**options, "kind": kind})
