"""Audit: what a model keeps of its training rows, by planted canaries and by membership."""

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
    """What a model keeps of its training rows.

    - `exposures`: of the canaries, in their order; `attacks`: membership inference, one a score
    - `rows`: where trained and held-out rows are from
    - `remarks`: what may make the two groups differ but membership
    """

    subject: str
    sha256: str
    exposures: list[Exposure]
    attacks: list[Attack]
    rows: str = ""
    remarks: list[str] = field(default_factory=list)
    seed: int = 0

    def headline(self) -> str:
        """What was found, in a few words."""
        words = []
        if self.exposures:
            most = max(self.exposures, key=lambda found: found.exposure)
            bits = np.log2(most.space)
            words.append(f"the most exposed canary has {most.exposure:.1f} of {bits:.1f} bits")
        words += [
            f"{a.name} AUC {a.auc:.3f} [{a.auc_low:.3f}, {a.auc_high:.3f}]" for a in self.attacks
        ]
        return "; ".join(words)

    def to_frame(self) -> pd.DataFrame:
        """One row a measure: what it is of, its value, its 95 % interval and n."""
        rows = [
            {
                "measure": "exposure (bits)",
                "of": e.text.replace("{}", e.value),
                "value": e.exposure,
                "low": e.low,
                "high": e.high,
                "n": e.n,
            }
            for e in self.exposures
        ]
        for a in self.attacks:
            n = a.n_trained + a.n_held_out
            ends = {"low": a.auc_low, "high": a.auc_high, "n": n}
            rows.append({"measure": "ROC-AUC", "of": a.name, "value": a.auc, **ends})
            ends = {"low": a.tpr_low, "high": a.tpr_high, "n": n}
            rows.append({"measure": "TPR at 1 % FPR", "of": a.name, "value": a.tpr, **ends})
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
    """What a model keeps of its training rows: exposure of canaries, and membership inference.

    A run of ours knows exactly which rows it was trained on and which it held out, and the split
    falls by chance, so nothing else tells the two apart. For any other model give both.

    Args:
        subject: The model; a run (`run:ID`) has its own rows.
        canaries: Values whose exposure is asked; also ones that were never planted, to compare.
        trained: Texts that the model was trained on, with `held_out`, in place of a run's own rows.
        held_out: Texts of the same kind that it never saw.
        n: Rows of either sort that are read at most.
        seed: Of the rows and values that are drawn.
        progress: Told the share that is done.

    Raises:
        WorkbenchError: For a canary that is none or longer than the context, and where neither
            canaries nor rows are known.
    """
    for canary in canaries:
        check_canary(canary)
    subject = load(subject) if isinstance(subject, str | Path) else subject
    groups, where, remarks = _groups(subject, trained, held_out, n, seed)
    if not (groups or canaries):
        raise WorkbenchError(
            f"The training rows of {subject.name} are unknown; give trained and held_out texts, "
            "canaries, or a run of yours (run:ID)."
        )
    exposures = [exposure(subject, c, seed=seed, progress=progress) for c in canaries]
    found: list[Attack] = []
    if groups:
        scores = [row_scores(subject, rows, progress=progress) for rows in groups]
        found = attacks(scores[0], scores[1], seed=seed)
    record = Audit(subject.name, subject.hash, exposures, found, where, remarks, seed)
    models = {subject.name: subject.hash}
    settings = {"n": n, "canaries": [vars(canary) for canary in canaries]}
    stamp(record, provenance("workbench.audit", settings, models=models, data={}, seed=seed))
    return record


def _groups(
    subject: Subject,
    trained: Sequence[str] | None,
    held_out: Sequence[str] | None,
    n: int,
    seed: int,
) -> tuple[tuple[Rows, Rows] | None, str, list[str]]:
    """Trained and held-out rows, where they are from, and what to remark; None where unknown."""
    if (trained is None) != (held_out is None):
        raise WorkbenchError("Trained rows are told from held-out ones; give texts of both.")
    if trained is not None and held_out is not None:
        rows = _of_texts(subject, trained, n), _of_texts(subject, held_out, n)
        return rows, "texts that were given", []
    run = re.fullmatch(r"run:([^@]+)(?:@(\d+))?", subject.name)
    config = Store().get(run[1]).config if run else {}
    if not run or config.get("kind", "pretrain") != "pretrain":
        return None, "", []
    recipe = Recipe.from_dict(config)
    steps = int(run[2] or recipe.train.steps)
    remarks = (
        ["The held-out rows are the corpus's end, which may differ from the rest."]
        if recipe.corpus.split == "tail"
        else []
    )
    return _of_run(subject, recipe, steps, n, seed), f"rows of run {run[1]}", remarks


def _of_texts(subject: Subject, texts: Sequence[str], n: int) -> Rows:
    rows = [subject.ids(text)[: subject.n_ctx] for text in texts[:n]]
    rows = [row for row in rows if len(row) > 1]
    if len(rows) < 2:
        raise WorkbenchError("An audit needs two texts of either sort, of two tokens or more each.")
    return rows


def _of_run(subject: Subject, recipe: Recipe, steps: int, n: int, seed: int) -> tuple[Rows, Rows]:
    """Rows that training drew at random steps, and as many of the validation split, none twice."""
    tokens = prepare(recipe.corpus, subject.tokenizer, subject.n_ctx)
    rng, settings, n_ctx = np.random.default_rng(seed), recipe.train, subject.n_ctx
    trained: Rows = []
    for step in rng.permutation(steps)[:n]:
        size = {"size": settings.batch_size, "n_ctx": n_ctx, "seed": settings.seed}
        drawn = tokens.batch(int(step), repeated=recipe.corpus.repeated, **size)
        plain = tokens.batch(int(step), repeated=0.0, **size)
        same = (drawn == plain).all(1)  # not those that were made to repeat themselves
        each = max(1, -(-n // steps))
        trained += [row[:n_ctx].tolist() for row in drawn[same][:each]]
    places = rng.permutation(len(tokens.validation) // n_ctx)[:n]
    held = [tokens.validation[p * n_ctx : (p + 1) * n_ctx].astype(int).tolist() for p in places]
    if min(len(trained), len(held)) < 2:
        raise WorkbenchError(
            f"{subject.name} held out {len(held)} rows and trained on {len(trained)} that can be "
            "compared; give trained and held_out texts."
        )
    return trained[:n], held
