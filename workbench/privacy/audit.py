"""Audit: what a model remembers of its training rows, by canaries and by membership inference."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.privacy.exposure import Canary, Exposure, check_canary, exposure
from workbench.privacy.extraction import Extraction, extraction
from workbench.privacy.membership import Attack, attacks
from workbench.privacy.rows import known_rows
from workbench.privacy.scores import row_scores
from workbench.progress import Progress
from workbench.provenance import provenance
from workbench.records import Record, stamp
from workbench.statistics.words import bracketed
from workbench.subjects import SubjectOrName, load


@dataclass(frozen=True)
class Audit(Record):
    """What a model remembers of its training rows.

    - `subject`, `sha256`: the model's name and the hash of its weights
    - `exposures`: one for each canary, in the order given
    - `attacks`: membership inference, one for each score; empty where no rows are known
    - `extraction`: how many rows are reproduced verbatim; None where no rows are known
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
    extraction: Extraction | None = None

    def headline(self) -> str:
        """The result in a few words: the most exposed canary, and the AUC of each attack."""
        words = []
        if self.exposures:
            most = max(self.exposures, key=lambda result: result.exposure)
            bits = np.log2(most.space)
            words.append(f"the most exposed canary has {most.exposure:.1f} of {bits:.1f} bits")
        for attack in self.attacks:
            interval = bracketed(attack.auc_low, attack.auc_high)
            words.append(f"{attack.name} AUC {attack.auc:.3f} {interval}")
        if self.extraction is not None:
            share = self.extraction.trained
            words.append(f"verbatim {share.value:.3f} {bracketed(share.low, share.high)}")
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
        if self.extraction is not None:
            rows += self.extraction.rows()
        return pd.DataFrame(rows)


@own_modes
def audit(
    subject: SubjectOrName,
    canaries: Sequence[Canary] = (),
    *,
    trained: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    n: int = 200,
    prefix: int | None = None,
    continuation: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """What a model remembers of its training rows: canaries, membership, verbatim continuation.

    A run of this workbench knows which rows it was trained on and which it held out. It draws the
    held-out rows at random, so the two groups differ in nothing but membership. Of a fine-tune the
    rows are its examples, and the scores are of their learned tokens. For any other model, give
    texts of both groups.

    Args:
        subject: The model; a run (`run:ID`) has its own rows.
        canaries: Planted values to measure; add values that were never planted for comparison.
        trained: Texts that the model was trained on, used in place of a run's own rows; needs
            `held_out` too.
        held_out: Texts of the same kind that the model never saw.
        n: The most rows that are read of each group.
        prefix: Tokens of each row that the model is given to continue; None for half a row, at most
            50.
        continuation: Tokens that it has to write as they stand there; None for the rest of a row,
            at most 50.
        seed: Seed of the random draw of rows and values.
        progress: Called with the share that is done, from 0 to 1, and a few words.

    Raises:
        WorkbenchError: For a canary that is malformed or longer than the context, for texts of one
            group alone, and where there are neither canaries nor known rows.
    """
    for canary in canaries:
        check_canary(canary)
    subject = load(subject) if isinstance(subject, str | Path) else subject
    known = known_rows(subject, trained, held_out, n, seed)
    if not (known.trained or canaries):
        raise WorkbenchError(
            f"The training rows of {subject.name} are unknown; give trained and held_out texts, "
            "canaries, or a run of yours (run:ID)."
        )
    exposures = [exposure(subject, canary, seed=seed, progress=progress) for canary in canaries]
    results: list[Attack] = []
    written: Extraction | None = None
    if known.trained:
        of_trained = row_scores(subject, known.trained, known.trained_parts, progress=progress)
        of_held_out = row_scores(subject, known.held_out, known.held_out_parts, progress=progress)
        results = attacks(of_trained, of_held_out, seed=seed)
        written = extraction(
            subject,
            known.trained,
            known.held_out,
            prefix=prefix,
            continuation=continuation,
            progress=progress,
        )
    record = Audit(
        subject.name,
        subject.hash,
        exposures,
        results,
        known.where,
        list(known.remarks),
        seed,
        written,
    )
    models = {subject.name: subject.hash}
    settings = {
        "n": n,
        "canaries": [vars(canary) for canary in canaries],
        "prefix": prefix,
        "continuation": continuation,
    }
    stamp(record, provenance("workbench.audit", settings, models=models, data={}, seed=seed))
    return record
