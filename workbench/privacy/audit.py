"""Audit: what a model remembers of its training rows, by canaries and by membership inference."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.privacy.exposure import Canary, Exposure, check_canary, exposure
from workbench.privacy.membership import Attack, attacks
from workbench.privacy.scores import row_scores
from workbench.provenance import provenance
from workbench.records import Record, stamp
from workbench.store import Store
from workbench.subjects import Subject, SubjectOrName, load
from workbench.training.corpus import prepare
from workbench.training.recipe import Recipe

Rows = list[list[int]]


@dataclass(frozen=True)
class Audit(Record):
    """What a model remembers of its training rows.

    - `subject`, `sha256`: the model's name and the hash of its weights
    - `exposures`: one for each canary, in the order given
    - `attacks`: membership inference, one for each score; empty where no rows are known
    - `rows`: where the trained and the held-out rows come from
    - `remarks`: reasons other than membership why the two groups of rows may differ
    - `seed`: seed of the random draws
    """

    subject: str
    sha256: str
    exposures: list[Exposure]
    attacks: list[Attack]
    rows: str = ""
    remarks: list[str] = field(default_factory=list)
    seed: int = 0

    def headline(self) -> str:
        """The result in a few words: the most exposed canary, and the AUC of each attack."""
        words = []
        if self.exposures:
            most = max(self.exposures, key=lambda result: result.exposure)
            bits = np.log2(most.space)
            words.append(f"the most exposed canary has {most.exposure:.1f} of {bits:.1f} bits")
        for attack in self.attacks:
            interval = f"[{attack.auc_low:.3f}, {attack.auc_high:.3f}]"
            words.append(f"{attack.name} AUC {attack.auc:.3f} {interval}")
        return "; ".join(words)

    def to_frame(self) -> pd.DataFrame:
        """One row for each measure: its name, what it is of, its value, 95 % interval and n."""
        rows = [
            {
                "measure": "exposure (bits)",
                "of": result.text.replace("{}", result.value),
                "value": result.exposure,
                "low": result.low,
                "high": result.high,
                "n": result.n,
            }
            for result in self.exposures
        ]
        for attack in self.attacks:
            n = attack.n_trained + attack.n_held_out
            ends = {"low": attack.auc_low, "high": attack.auc_high, "n": n}
            rows.append({"measure": "ROC-AUC", "of": attack.name, "value": attack.auc, **ends})
            ends = {"low": attack.tpr_low, "high": attack.tpr_high, "n": n}
            measure = "TPR at 1 % FPR"
            rows.append({"measure": measure, "of": attack.name, "value": attack.tpr, **ends})
        return pd.DataFrame(rows)


@own_modes
def audit(
    subject: SubjectOrName,
    canaries: Sequence[Canary] = (),
    *,
    trained: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    n: int = 200,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Audit:
    """What a model remembers of its training rows: exposure of canaries, and membership inference.

    A run of this workbench knows which rows it was trained on and which it held out. It draws the
    held-out rows at random, so the two groups differ in nothing but membership. For any other
    model, give texts of both groups.

    Args:
        subject: The model; a run (`run:ID`) has its own rows.
        canaries: Planted values to measure; add values that were never planted for comparison.
        trained: Texts that the model was trained on, used in place of a run's own rows; needs
            `held_out` too.
        held_out: Texts of the same kind that the model never saw.
        n: The most rows that are read of each group.
        seed: Seed of the random draw of rows and values.
        progress: Called with the share that is done, from 0 to 1, and a few words.

    Raises:
        WorkbenchError: For a canary that is malformed or longer than the context, for texts of one
            group alone, and where there are neither canaries nor known rows.
    """
    for canary in canaries:
        check_canary(canary)
    subject = load(subject) if isinstance(subject, str | Path) else subject
    groups, where, remarks = _known_rows(subject, trained, held_out, n, seed)
    if not (groups or canaries):
        raise WorkbenchError(
            f"The training rows of {subject.name} are unknown; give trained and held_out texts, "
            "canaries, or a run of yours (run:ID)."
        )
    exposures = [exposure(subject, canary, seed=seed, progress=progress) for canary in canaries]
    results: list[Attack] = []
    if groups:
        scores = [row_scores(subject, rows, progress=progress) for rows in groups]
        results = attacks(scores[0], scores[1], seed=seed)
    record = Audit(subject.name, subject.hash, exposures, results, where, remarks, seed)
    models = {subject.name: subject.hash}
    settings = {"n": n, "canaries": [vars(canary) for canary in canaries]}
    stamp(record, provenance("workbench.audit", settings, models=models, data={}, seed=seed))
    return record


def _known_rows(
    subject: Subject,
    trained: Sequence[str] | None,
    held_out: Sequence[str] | None,
    n: int,
    seed: int,
) -> tuple[tuple[Rows, Rows] | None, str, list[str]]:
    """Trained and held-out rows (None where unknown), where they come from, and remarks."""
    if (trained is None) != (held_out is None):
        raise WorkbenchError("An audit compares trained with held-out texts; give texts of both.")
    if trained is not None and held_out is not None:
        rows = (_rows_of_texts(subject, trained, n), _rows_of_texts(subject, held_out, n))
        return rows, "texts that were given", []
    run = re.fullmatch(r"run:([^@]+)(?:@(\d+))?", subject.name)
    config = Store().get(run[1]).config if run else {}
    if not run or config.get("kind", "pretrain") != "pretrain":
        return None, "", []
    recipe = Recipe.from_dict(config)
    steps = int(run[2] or recipe.train.steps)
    remarks = (
        ["The held-out rows are the end of the corpus, which may differ from the rest."]
        if recipe.corpus.split == "tail"
        else []
    )
    return _rows_of_run(subject, recipe, steps, n, seed), f"rows of run {run[1]}", remarks


def _rows_of_texts(subject: Subject, texts: Sequence[str], n: int) -> Rows:
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
    for place in rng.permutation(len(tokens.validation) // n_ctx)[:n]:
        row = tokens.validation[place * n_ctx : (place + 1) * n_ctx]
        held_out.append(row.astype(int).tolist())
    if min(len(trained), len(held_out)) < 2:
        raise WorkbenchError(
            f"{subject.name} held out {len(held_out)} rows and trained on {len(trained)} that can "
            "be compared, and two of each are needed; give trained and held_out texts."
        )
    return trained[:n], held_out
