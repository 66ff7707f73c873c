"""Fine-tuning a Subject on a task, whole or by LoRA, with the loss on completions only, measured
before and after.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
from accelerate import PartialState
from accelerate.utils import set_seed

from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.subjects import Subject, load
from workbench.training import checkpoints, evaluation, lora
from workbench.training.loop import Batch, Trainee, fit, resumed
from workbench.training.recipe import Recipe
from workbench.training.rows import Row, check_vocabulary, collate
from workbench.training.same_data import fingerprint, require_same
from workbench.training.tasks import Data, Item, Task, make

SHARES = {"base": (0.0, 0.1), "training": (0.1, 0.9), "tuned": (0.9, 1.0)}
"""What part of the progress bar each stage fills."""
ROWS_AT_ONCE = 16
"""Rows of a validation batch."""


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Fine-tune `base` on `[task]`: all weights, or with a `[lora]` table adapters that are kept
    apart.

    Base and tuned answer the same held-out items; the answers are in the run's folder, and
    `changes` of the result holds each metric before and after with the paired difference, its 95 %
    interval and p.

    Returns steps, losses in nats a learned token, the counts of examples, the parent and its hash,
    the changes.

    Raises:
        WorkbenchError: For a base or data that cannot be had, or that are others than when this run
            began.
    """
    recipe = _pinned(Recipe.from_dict(config))
    task, base, (train, validation, held_out, left_out, remarks) = _setup(recipe)
    examples = fingerprint([*train, *validation, *held_out])
    main = PartialState().is_main_process
    require_same(tracker.folder, going_on=True, writes=main, base=base.hash, examples=examples)
    before = _ask(task, base, held_out, tracker, "base")
    trainee = _trainee(recipe, base, tracker)
    n_trained = sum(p.numel() for p in trainee.model.parameters() if p.requires_grad)
    batch = _batches(recipe, train)
    held = _capped(validation, recipe.train.eval_tokens)
    result = fit(trainee, recipe.train, batch, held, _Stage(tracker, "training"))
    after = _ask(
        task, load(result["checkpoint"]), held_out, tracker, "tuned"
    )  # as any other room would load it
    return {
        **result,
        "task": task.kind,
        "data": task.source,
        "examples": len(train),
        "held_out": len(held_out),
        "left_out": left_out,
        "remarks": remarks,
        "trained_parameters": n_trained,
        "parent": recipe.base,
        "parent_sha256": base.hash,
        "changes": [asdict(change) for change in evaluation.changes(task, before, after)],
    }


def trial(recipe: Recipe) -> tuple[Trainee, Callable[[int], Batch]]:
    """What is trained and the rows of each step, for measuring a few of them."""
    recipe = _pinned(recipe)
    _, base, (train, *_) = _setup(recipe)
    return _trainee(recipe, base, None), _batches(recipe, train)


class Examples(NamedTuple):
    """Rows to learn and to watch, the items both models answer, how many examples are in none, and
    remarks.
    """

    train: list[Row]
    validation: list[Row]
    held_out: list[Item]
    left_out: dict[str, int]
    remarks: list[str]


def make_task(recipe: Recipe) -> Task:
    """The recipe's task. Raises `WorkbenchError` when the recipe lacks what a fine-tune needs."""
    if not recipe.base.strip():
        raise WorkbenchError(
            "A fine-tuning recipe needs base = (a model); name a model, a file or a run."
        )
    if recipe.lora is not None:
        lora.Lora.from_dict(recipe.lora)
    return make(recipe.task)


def _pinned(recipe: Recipe) -> Recipe:
    """With a base that stays the same while it is trained further."""
    return replace(recipe, base=lora.lasting(recipe.base)) if recipe.base.strip() else recipe


def _setup(recipe: Recipe) -> tuple[Task, Subject, Examples]:
    task = make_task(recipe)
    base = load(recipe.base)
    task.prepare(base.tokenizer)
    return task, base, _examples(task, task.read(recipe.corpus.validation, recipe.train.seed), base)


def _examples(task: Task, data: Data, base: Subject) -> Examples:
    """The examples that fit the context; raises `WorkbenchError` when none does, or the vocabulary
    does not.
    """
    longest = min(task.max_length, base.n_ctx)
    counts = dict(data.left_out)

    def fitting(items: list[Item], where: str, most: int | None = None) -> list[tuple[Item, Row]]:
        kept, dropped = _fitting(task, base.tokenizer, items, longest, most)
        if dropped:
            counts[f"too long ({where})"] = dropped
        return kept

    train = fitting(data.train, "training")
    validation = fitting(data.validation, "validation")
    held = fitting(data.held_out, "held out", task.eval_items)
    for kept, items, where in ((train, data.train, "training"), (held, data.held_out, "held-out")):
        if not kept:
            raise WorkbenchError(
                f"All {len(items)} {where} examples of {task.source} are longer than {longest} "
                f"tokens; raise max_length of [task] ({task.max_length}), or choose a base with a "
                f"longer context than {base.n_ctx}."
            )
    rows = [row for _, row in train]
    check_vocabulary(
        [*rows, *(row for _, row in held)], base.tokenizer, base.card.d_vocab, base.name
    )
    judged = [row for _, row in validation or held]
    return Examples(rows, judged, [item for item, _ in held], counts, data.remarks)


def _fitting(
    task: Task, tokenizer: Any, items: list[Item], longest: int, most: int | None
) -> tuple[list[tuple[Item, Row]], int]:
    """The first items, `most` of them at most, whose rows hold an answer and fit; and how many
    before did not.
    """
    kept: list[tuple[Item, Row]] = []
    looked = 0
    while looked < len(items) and (most is None or len(kept) < most):
        row = task.row(tokenizer, items[looked])
        if len(row.ids) <= longest and row.n_learned and row.prompt:
            kept.append((items[looked], row))
        looked += 1
    return kept, looked - len(kept)


def held_out_rows(recipe: Recipe, subject: Subject, most: int) -> list[Row]:
    """The first held-out examples of a fine-tune, as its run drew them, for a Subject of the same
    tokenizer.

    None of them was learned from. Raises `WorkbenchError` when the data cannot be had.
    """
    task, tokenizer = (
        make_task(recipe),
        copy(subject.tokenizer),
    )  # a task may give its tokenizer a chat template
    task.prepare(tokenizer)
    items = task.read(recipe.corpus.validation, recipe.train.seed).held_out
    return [
        row
        for _, row in _fitting(task, tokenizer, items, min(task.max_length, subject.n_ctx), most)[0]
    ]


def _trainee(recipe: Recipe, base: Subject, tracker: Tracker | None) -> Trainee:
    """What is trained: the newest checkpoint of the run where there is one, else the base."""
    set_seed(recipe.train.seed)
    if recipe.lora is None:
        base.model.requires_grad_(True)
        return (resumed(tracker) if tracker else None) or Trainee(base.model, base.tokenizer)
    model: Any = lora.adapt(base, lora.Lora.from_dict(recipe.lora), recipe.base)
    found = checkpoints.newest_whole(tracker.folder) if tracker else None
    if found is None:
        return Trainee(model, base.tokenizer)
    lora.restore(model, found)
    return Trainee(model, base.tokenizer, checkpoints.step_of(found), found)


def _ask(task: Task, subject: Subject, items: list[Item], tracker: Tracker, who: str):
    """A model's answers, from the run's folder where it has them already."""
    kept = evaluation.answers(tracker.folder, who)
    if kept is not None:
        return kept
    report = _Stage(tracker, who)
    words = f"{who} answers {len(items)} held-out items"
    report.progress(0.0, words)
    frame = evaluation.ask(
        task, subject.model, subject.tokenizer, items, lambda done: report.progress(done, words)
    )
    evaluation.keep(frame, tracker.folder, who)
    return frame


def _batches(recipe: Recipe, rows: list[Row]) -> Callable[[int], Batch]:
    size = recipe.train.batch_size
    seed = recipe.train.seed

    def batch(step: int) -> Batch:
        """Every row once an epoch, in an order of its own; the last batch of an epoch is filled
        from the next.
        """
        chosen = []
        for number in range(step * size, (step + 1) * size):
            epoch, at = divmod(number, len(rows))
            chosen.append(rows[_order(len(rows), seed, epoch)[at]])
        return collate(chosen)

    return batch


_ORDERS: dict[tuple[int, int, int], np.ndarray] = {}


def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    key = (n, seed, epoch)
    if key not in _ORDERS:
        while (
            len(_ORDERS) > 1
        ):  # a batch needs two epochs at most unless the data is smaller than it
            _ORDERS.pop(next(iter(_ORDERS)))
        _ORDERS[key] = np.random.default_rng((seed, epoch)).permutation(n)
    return _ORDERS[key]


def _capped(rows: list[Row], eval_tokens: int) -> list[Batch]:
    """Batches of the first rows, with `eval_tokens` tokens at most but one batch at least."""
    kept = 0
    tokens = 0
    while kept < len(rows) and (kept < ROWS_AT_ONCE or tokens + len(rows[kept].ids) <= eval_tokens):
        tokens += len(rows[kept].ids)
        kept += 1
    return [collate(rows[i : min(i + ROWS_AT_ONCE, kept)]) for i in range(0, kept, ROWS_AT_ONCE)]


class _Stage:
    """A run's tracker whose progress fills one part of the bar."""

    def __init__(self, tracker: Any, stage: str) -> None:
        self._tracker = tracker
        (self._low, self._high) = SHARES[stage]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def progress(self, fraction: float, message: str = "") -> None:
        self._tracker.progress(self._low + fraction * (self._high - self._low), message)
