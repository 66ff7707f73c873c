"""The rows that a model was trained on, and rows of the same kind that it never saw."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.subjects import Subject
from workbench.training.corpus import prepare
from workbench.training.finetune import both_groups
from workbench.training.recipe import Recipe

Rows = list[list[int]]
"""Token ids of each row."""
Parts = Sequence[Sequence[bool]]
"""For each row, which of its tokens a model learned to write."""


class Known(NamedTuple):
    """Rows of both groups.

    - `trained`, `held_out`: token ids of each row; both empty where no rows are known
    - `where`: where they come from, in words
    - `remarks`: reasons other than membership why the two groups may differ
    - `trained_parts`, `held_out_parts`: for each row, which of its tokens were learned; empty where
      all were
    """

    trained: Rows
    held_out: Rows
    where: str = ""
    remarks: tuple[str, ...] = ()
    trained_parts: Parts = ()
    held_out_parts: Parts = ()


def known_rows(
    subject: Subject,
    trained: Sequence[str] | None,
    held_out: Sequence[str] | None,
    n: int,
    seed: int,
) -> Known:
    """The rows of both groups: texts that are given, else those of the run; of others none.

    Args:
        subject: The model; a run (`run:ID`) has its own rows.
        trained: Texts that the model was trained on; needs `held_out` too.
        held_out: Texts of the same kind that the model never saw.
        n: The most rows of each group.
        seed: Seed of the draw from a run's rows.

    Raises:
        WorkbenchError: For texts of one group alone, and for fewer than two rows in a group.
    """
    if (trained is None) != (held_out is None):
        raise WorkbenchError("An audit compares trained with held-out texts; give texts of both.")
    if trained is not None and held_out is not None:
        return Known(
            rows_of_texts(subject, trained, n),
            rows_of_texts(subject, held_out, n),
            "texts that were given",
        )
    run = re.fullmatch(r"run:([^@]+)(?:@(\d+))?", subject.name)
    if not run:
        return Known([], [])
    recipe = Recipe.from_dict(Store().get(run[1]).config)
    steps = int(run[2] or recipe.train.steps)
    if recipe.kind == "finetune":
        return _examples_of_run(subject, recipe, steps, n, seed)
    remarks = (
        ("The held-out rows are the end of the corpus, which may differ from the rest.",)
        if recipe.corpus.split == "tail"
        else ()
    )
    return Known(*_rows_of_run(subject, recipe, steps, n, seed), f"rows of run {run[1]}", remarks)


def rows_of_texts(subject: Subject, texts: Sequence[str], n: int) -> Rows:
    """The token ids of the first `n` texts, each cut to the context; without those of one token."""
    rows = [subject.ids(text)[: subject.n_ctx] for text in texts[:n]]
    rows = [row for row in rows if len(row) > 1]
    if len(rows) < 2:
        raise WorkbenchError(
            "An audit needs two texts or more of each group, and two tokens or more in each text; "
            "give more or longer texts."
        )
    return rows


def _rows_of_run(
    subject: Subject, recipe: Recipe, steps: int, n: int, seed: int
) -> tuple[Rows, Rows]:
    """Up to `n` rows that training read at random steps, and up to `n` of the validation split."""
    tokens = prepare(recipe.corpus, subject.tokenizer, subject.n_ctx)
    rng = np.random.default_rng(seed)
    settings = recipe.train
    n_ctx = subject.n_ctx
    rows_a_step = max(1, -(-n // steps))  # n / steps, rounded up
    trained: Rows = []
    for step in rng.permutation(steps)[:n]:
        size = {"size": settings.batch_size, "n_ctx": n_ctx, "seed": settings.seed}
        drawn = tokens.batch(int(step), repeated=recipe.corpus.repeated, **size)
        plain = tokens.batch(int(step), repeated=0.0, **size)
        same = (drawn == plain).all(1)  # leaves out rows that training made repeat themselves
        trained += [row[:n_ctx].tolist() for row in drawn[same][:rows_a_step]]
    held_out: Rows = []
    for start in rng.permutation(tokens.validation_starts(n_ctx))[:n]:
        row = tokens.validation[start : start + n_ctx]
        held_out.append(row.astype(int).tolist())
    if min(len(trained), len(held_out)) < 2:
        raise WorkbenchError(
            f"{subject.name} held out {len(held_out)} rows and trained on {len(trained)} that can "
            "be compared, and two of each are needed; give trained and held_out texts."
        )
    return trained[:n], held_out


def _examples_of_run(subject: Subject, recipe: Recipe, steps: int, n: int, seed: int) -> Known:
    """Up to `n` examples that a fine-tune learned from, and up to `n` that it held out of them."""
    rng = np.random.default_rng(seed)
    groups = both_groups(recipe, subject, steps)
    learned, watched = ([rows[i] for i in rng.permutation(len(rows))[:n]] for rows in groups)
    if min(len(learned), len(watched)) < 2:
        raise WorkbenchError(
            f"{subject.name} held out {len(watched)} of its training examples, and two are needed; "
            "set a larger validation in [corpus] of its recipe, or give trained and held_out texts."
        )
    remarks = ("The scores are of the tokens that were learned, not of those in the prompts.",)
    if recipe.privacy is not None:
        never = (1 - recipe.train.batch_size / len(groups[0])) ** steps
        remarks += (f"A private run draws its examples; it never drew about {never:.1%} of them.",)
    return Known(
        [row.ids for row in learned],
        [row.ids for row in watched],
        f"examples of {subject.name}",
        remarks,
        [row.learned for row in learned],
        [row.learned for row in watched],
    )
