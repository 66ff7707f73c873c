"""The tasks a Subject can be fine-tuned on: how each is read, rendered, answered and scored."""

from typing import Any

from workbench.data.sets import SETS
from workbench.errors import WorkbenchError
from workbench.training.tasks.chat import Chat
from workbench.training.tasks.classification import Classification
from workbench.training.tasks.entities import Entities
from workbench.training.tasks.questions import Questions
from workbench.training.tasks.task import Data, Item, Task

__all__ = ["KINDS", "SETS", "Data", "Item", "Task", "make"]

KINDS: dict[str, type[Task]] = {
    kind.kind: kind for kind in (Classification, Entities, Questions, Chat)
}


def make(options: dict[str, Any]) -> Task:
    """The task that `[task]` of a recipe describes; without `kind` that of its data set, else
    classification.

    Raises `WorkbenchError` naming a word that the task does not know.
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
