"""Fine-tuning a Subject on a task, fully or by LoRA, with each metric before and after."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from accelerate import PartialState
from accelerate.utils import set_seed

from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.store.tracker import Wrapped
from workbench.subjects import Subject, load
from workbench.subjects.kinds import SEQ2SEQ, start_token
from workbench.training import checkpoints, evaluation, lora, private
from workbench.training.cards import with_card
from workbench.training.loop import Batch, Stepper, Trainee, fit, resumed
from workbench.training.private import Budget
from workbench.training.recipe import Recipe
from workbench.training.recipe_tables import Privacy
from workbench.training.rows import Row, check_vocabulary, collate
from workbench.training.same_data import fingerprint, require_same
from workbench.training.tasks import Data, Item, Task, make
from workbench.training.two_texts import collate_two

if TYPE_CHECKING:
    import pandas as pd

Together = Callable[[Sequence[Row]], Batch]
"""Makes a batch of rows."""
SHARES = {"base": (0.0, 0.1), "training": (0.1, 0.9), "tuned": (0.9, 1.0)}
"""The part of the progress bar that each stage fills."""
ROWS_AT_ONCE = 16
"""Rows per validation batch."""


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Fine-tune a base on a task and return the run's result, with each metric before and after.

    Base and tuned model answer the same held-out items; the answers are stored in the run's
    folder.

    Args:
        config: A recipe as a dictionary. `base` and `[task]` are needed; all weights are trained,
            or only adapters if there is a `[lora]` table.
        tracker: Of the run; a run with a checkpoint is resumed.

    Returns:
        Steps, losses in nats per learned token, counts of examples, the parent and its hash, and
        `changes`: each metric with its paired difference, 95 % interval and p-value.

    Raises:
        WorkbenchError: For a base or data that cannot be loaded, or that have changed since the
            run began.
    """
    recipe = _pinned(Recipe.from_dict(config))
    task, base, rows = _setup(recipe)
    examples = fingerprint([*rows.train, *rows.validation, *rows.held_out])
    main = PartialState().is_main_process
    require_same(tracker.folder, going_on=True, writes=main, base=base.hash, examples=examples)
    before = _ask(task, base, rows.held_out, tracker, "base")
    trainee = _trainee(recipe, base, tracker)
    n_trained = sum(p.numel() for p in trainee.model.parameters() if p.requires_grad)
    together = _together(task, base)
    batch, stepper_of, spend = _way(recipe, rows.train, together)
    validation = _capped(rows.validation, recipe.train.eval_tokens, together)
    stage = _Stage(tracker, "training")
    result = fit(trainee, recipe.train, batch, validation, stage, stepper_of)
    # From disk, so that what was saved is what is measured.
    tuned = load(result["checkpoint"], seq2seq=task.seq2seq)
    after = _ask(task, tuned, rows.held_out, tracker, "tuned")
    ended = {
        **result,
        "task": task.kind,
        "data": task.source,
        "examples": len(rows.train),
        "held_out": len(rows.held_out),
        "left_out": rows.left_out,
        "remarks": rows.remarks,
        "trained_parameters": n_trained,
        "parent": recipe.base,
        "parent_sha256": base.hash,
        **({} if spend is None else {"privacy": asdict(spend)}),
        "changes": [asdict(change) for change in evaluation.changes(task, before, after)],
    }
    return with_card(config, ended, tracker)


def trial(recipe: Recipe) -> tuple[Trainee, Callable[[int], Batch], Callable[..., Stepper]]:
    """What a measurement of a few steps takes: model, batches by step, what makes a stepper."""
    recipe = _pinned(recipe)
    task, base, rows = _setup(recipe)
    batch, stepper_of, _ = _way(recipe, rows.train, _together(task, base))
    return _trainee(recipe, base, None), batch, stepper_of


def _way(
    recipe: Recipe, rows: list[Row], together: Together
) -> tuple[Callable[[int], Batch], Callable[..., Stepper], Budget | None]:
    """How the weights are trained: batches by step, what makes a stepper, and a private budget."""
    if recipe.privacy is None:
        return _batches(recipe, rows, together), Stepper, None
    spend = private.budget(Privacy(**recipe.privacy), recipe.train, len(rows))
    stepper_of = partial(private.PrivateStepper, spend=spend)
    return private.batches(rows, spend.sample_rate), stepper_of, spend


class Examples(NamedTuple):
    """The prepared examples of a fine-tune.

    - `train`, `validation`: rows to learn from, and rows for the loss curve
    - `held_out`: items that both models answer
    - `left_out`: how many examples are in none of these, by reason
    - `remarks`: what was assumed about the data
    """

    train: list[Row]
    validation: list[Row]
    held_out: list[Item]
    left_out: dict[str, int]
    remarks: list[str]


def make_task(recipe: Recipe) -> Task:
    """The task of a recipe.

    Raises:
        WorkbenchError: For a recipe without a base, or with a wrong `[task]` or `[lora]` table.
    """
    if not recipe.base.strip():
        raise WorkbenchError(
            "A fine-tuning recipe needs base = (a model); name a model, a file or a run."
        )
    if recipe.lora is not None:
        lora.Lora.from_dict(recipe.lora)
    task = make(recipe.task)
    if task.seq2seq:
        _check_rewriting(recipe)
    return task


def _check_rewriting(recipe: Recipe) -> None:
    """Raise for what is done with decoders only."""
    decoders_only = {
        "[lora]": recipe.lora is not None,
        "[privacy]": recipe.privacy is not None,
        "[train] sharded": recipe.train.sharded,
        '[train] optimizer = "muon"': recipe.train.optimizer == "muon",
    }
    for what, is_there in decoders_only.items():
        if is_there:
            mend = 'set optimizer = "adamw"' if "muon" in what else "leave it out"
            raise WorkbenchError(
                f"{what} is for decoder-only models, and the task rewriting is for "
                f"encoder-decoders; {mend}."
            )


def _pinned(recipe: Recipe) -> Recipe:
    """The recipe with a base that names the same weights even if the base is trained further."""
    return replace(recipe, base=lora.lasting(recipe.base)) if recipe.base.strip() else recipe


def _setup(recipe: Recipe) -> tuple[Task, Subject, Examples]:
    """The task, the base model and the examples of a recipe."""
    task = make_task(recipe)
    base = load(recipe.base, seq2seq=True)
    if task.seq2seq != (base.kind == SEQ2SEQ):
        raise WorkbenchError(_wrong_base(task, base))
    task.prepare(base.tokenizer)
    return task, base, _examples(task, task.read(recipe.corpus.validation, recipe.train.seed), base)


def _wrong_base(task: Task, base: Subject) -> str:
    if task.seq2seq:
        return (
            f"The task rewriting needs an encoder-decoder, and {base.name} is a {base.kind}-only "
            "model; choose shelf-blank, shelf-reverse or a T5 folder as base."
        )
    return (
        f"{base.name} is an encoder-decoder, which learns the task rewriting only; choose it as "
        f"kind of [task] instead of {task.kind}, or a decoder-only base such as shelf-base."
    )


def _together(task: Task, base: Subject) -> Together:
    """What makes a batch of rows: padded rows, or two texts for an encoder-decoder."""
    return partial(collate_two, start=start_token(base.model)) if task.seq2seq else collate


def _examples(task: Task, data: Data, base: Subject) -> Examples:
    """The examples that fit the context.

    Raises:
        WorkbenchError: When none fits, or the tokenizer cannot spell an answer.
    """
    longest = min(task.max_length, base.n_ctx)
    counts = dict(data.left_out)

    def fitting(items: list[Item], where: str, most: int | None = None) -> list[tuple[Item, Row]]:
        pairs, dropped = _fitting(task, base.tokenizer, items, longest, most)
        if dropped:
            counts[f"too long ({where})"] = dropped
        return pairs

    train = fitting(data.train, "training")
    validation = fitting(data.validation, "validation")
    held = fitting(data.held_out, "held out", task.eval_items)
    for pairs, items, where in ((train, data.train, "training"), (held, data.held_out, "held-out")):
        if not pairs:
            raise WorkbenchError(
                f"All {len(items)} {where} examples of {task.source} are longer than {longest} "
                f"tokens; raise max_length of [task] ({task.max_length}), or choose a base with a "
                f"longer context than {base.n_ctx}."
            )
    rows = [row for _, row in train]
    check_vocabulary(
        [*rows, *(row for _, row in held)], base.tokenizer, base.card.d_vocab, base.name
    )
    watched = [row for _, row in validation or held]
    return Examples(rows, watched, [item for item, _ in held], counts, data.remarks)


def _fitting(
    task: Task, tokenizer: Any, items: list[Item], longest: int, most: int | None
) -> tuple[list[tuple[Item, Row]], int]:
    """The first `most` items (all for None) whose rows fit, with their rows; how many did not."""
    pairs: list[tuple[Item, Row]] = []
    n_seen = 0
    while n_seen < len(items) and (most is None or len(pairs) < most):
        row = task.row(tokenizer, items[n_seen])
        if len(row.ids) <= longest and row.n_learned and row.prompt:
            pairs.append((items[n_seen], row))
        n_seen += 1
    return pairs, n_seen - len(pairs)


def held_out_rows(recipe: Recipe, subject: Subject, most: int) -> list[Row]:
    """The first held-out examples of a fine-tune as rows, as its run drew them.

    Args:
        recipe: Of the fine-tune.
        subject: Its base or result, or any model with the same tokenizer.
        most: Maximum of rows.

    Raises:
        WorkbenchError: When the data cannot be read.
    """
    data, rows_of = _read_again(recipe, subject)
    return rows_of(data.held_out, most)


def both_groups(recipe: Recipe, subject: Subject, steps: int) -> tuple[list[Row], list[Row]]:
    """The examples that a fine-tune learned from, and those that it watched and never learned.

    Args:
        recipe: Of the fine-tune.
        subject: Its result, or any model with the same tokenizer.
        steps: Steps that were done; examples that no step has reached are left out. A private run
            draws at random which ones it takes, so all of them are here.

    Raises:
        WorkbenchError: When the data cannot be read.
    """
    data, rows_of = _read_again(recipe, subject)
    learned = rows_of(data.train, None)
    n_reached = steps * recipe.train.batch_size
    if recipe.privacy is None and n_reached < len(learned):
        order = _order(len(learned), recipe.train.seed, 0)[:n_reached]
        learned = [learned[number] for number in order]
    return learned, rows_of(data.validation, None)


def _read_again(
    recipe: Recipe, subject: Subject
) -> tuple[Data, Callable[[list[Item], int | None], list[Row]]]:
    """The data of a fine-tune as its run drew them, and what makes rows of the first that fit."""
    task = make_task(recipe)
    tokenizer = copy(subject.tokenizer)  # a task may give its tokenizer a chat template
    task.prepare(tokenizer)
    longest = min(task.max_length, subject.n_ctx)

    def rows_of(items: list[Item], most: int | None) -> list[Row]:
        return [row for _, row in _fitting(task, tokenizer, items, longest, most)[0]]

    return task.read(recipe.corpus.validation, recipe.train.seed), rows_of


def _trainee(recipe: Recipe, base: Subject, tracker: Tracker | None) -> Trainee:
    """What is trained: the run's newest checkpoint if there is one, else the base."""
    set_seed(recipe.train.seed)
    if recipe.lora is None:
        base.model.requires_grad_(True)
        return (resumed(tracker) if tracker else None) or Trainee(base.model, base.tokenizer)
    model: Any = lora.adapt(base, lora.Lora.from_dict(recipe.lora), recipe.base)
    checkpoint = checkpoints.newest_whole(tracker.folder) if tracker else None
    if checkpoint is None:
        return Trainee(model, base.tokenizer)
    lora.restore(model, checkpoint)
    return Trainee(model, base.tokenizer, checkpoints.step_of(checkpoint), checkpoint)


def _ask(
    task: Task, subject: Subject, items: list[Item], tracker: Tracker, who: str
) -> "pd.DataFrame":
    """A model's answers, from the run's folder if they are stored there already."""
    stored = evaluation.answers(tracker.folder, who)
    if stored is not None:
        return stored
    report = _Stage(tracker, who)
    words = f"{who} answers {len(items)} held-out items"
    report.progress(0.0, words)
    frame = evaluation.ask(
        task, subject.model, subject.tokenizer, items, lambda done: report.progress(done, words)
    )
    evaluation.keep(frame, tracker.folder, who)
    return frame


def _batches(recipe: Recipe, rows: list[Row], together: Together) -> Callable[[int], Batch]:
    """The batch of each step: every row once per epoch, each epoch in an order of its own."""
    size = recipe.train.batch_size
    seed = recipe.train.seed

    def batch(step: int) -> Batch:
        # The last batch of an epoch is filled up with the first rows of the next.
        chosen = []
        for number in range(step * size, (step + 1) * size):
            epoch, at = divmod(number, len(rows))
            chosen.append(rows[_order(len(rows), seed, epoch)[at]])
        return together(chosen)

    return batch


_ORDERS: dict[tuple[int, int, int], np.ndarray] = {}


def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of `n` rows in an epoch, cached."""
    key = (n, seed, epoch)
    if key not in _ORDERS:
        # A batch spans at most two epochs, unless the data is smaller than a batch.
        while len(_ORDERS) > 1:
            _ORDERS.pop(next(iter(_ORDERS)))
        _ORDERS[key] = np.random.default_rng((seed, epoch)).permutation(n)
    return _ORDERS[key]


def _capped(rows: list[Row], eval_tokens: int, together: Together) -> list[Batch]:
    """Batches of the first rows: at most `eval_tokens` tokens, but at least one batch."""
    n_tokens = 0
    n_rows = 0
    for row in rows:
        if n_rows >= ROWS_AT_ONCE and n_tokens + len(row.ids) > eval_tokens:
            break
        n_tokens += len(row.ids)
        n_rows += 1
    return [
        together(rows[i : min(i + ROWS_AT_ONCE, n_rows)]) for i in range(0, n_rows, ROWS_AT_ONCE)
    ]


class _Stage(Wrapped):
    """A run's tracker whose progress fills one part of the progress bar."""

    def __init__(self, tracker: Tracker, stage: str) -> None:
        super().__init__(tracker)
        self._low, self._high = SHARES[stage]

    def progress(self, fraction: float, message: str = "") -> None:
        super().progress(self._low + fraction * (self._high - self._low), message)
