"""Position encodings compared: loss, extrapolation, attention by distance, kinds of heads."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.interp.patterns.catalogue import RULES, HeadCatalogue, head_catalogue
from workbench.interp.position.distance import Distances, attention_by_distance
from workbench.interp.position.loss import PositionLoss, loss_by_position
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName


@dataclass(frozen=True)
class EncodingRow:
    """One model of the study, with its loss by position, attention by distance and heads."""

    name: str
    positions: str
    n_ctx: int
    loss: PositionLoss
    distances: Distances
    heads: HeadCatalogue


@dataclass(frozen=True)
class EncodingStudy(Record):
    """Models measured in the same way, in the order given."""

    rows: list[EncodingRow]

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of each model, by its name."""
        return {
            name: sha256 for row in self.rows for name, sha256 in row.heads.model_hashes().items()
        }

    def headline(self) -> str:
        """The result in a few words."""
        return "; ".join(f"{row.name} {row.loss.inside():.3f} nats a token" for row in self.rows)

    def to_frame(self) -> pd.DataFrame:
        """One row per model: losses inside and beyond the context, best heads, counts of labels."""
        table = []
        for row in self.rows:
            n_layers, n_heads = row.heads.mean["copying"].shape
            n_labelled: Counter[str] = Counter()
            for layer in range(n_layers):
                for head in range(n_heads):
                    n_labelled.update(row.heads.labels(layer, head))
            best = {
                f"most {score.removesuffix('_score').replace('_', ' ')}": self._best(row, score)
                for score in BEST
            }
            table.append(
                {
                    "model": row.name,
                    "encoding": row.positions,
                    "context": row.n_ctx,
                    "loss": row.loss.inside(),
                    "loss beyond": row.loss.beyond(),
                    **best,
                    "positional share": float(row.heads.mean["positional_share"].mean()),
                    **{rule.label: n_labelled[rule.label] for rule in RULES},
                }
            )
        return pd.DataFrame(table)

    @staticmethod
    def _best(row: EncodingRow, score: str) -> str:
        name, value = row.heads.scores.best(score)
        return f"{name} {value:.2f}"


BEST = ("previous_token_score", "induction_score")
"""The scores whose best head is shown."""


@public("subjects")
@own_modes
def encoding_study(
    subjects: Sequence[SubjectOrName], texts: Sequence[str], *, n: int = 8, reach: float = 2.0
) -> EncodingStudy:
    """A comparison of models by their position encoding, on texts and on random tokens.

    Args:
        subjects: The models.
        texts: Texts for the loss by position.
        n: Random sequences for attention by distance and the heads.
        reach: How far the loss is read, as a multiple of the context.

    Raises:
        WorkbenchError: There is no model, or a measurement fails.
    """
    models = cast(Sequence[Subject], subjects)
    if not models:
        raise WorkbenchError("The study needs at least one model; choose some.")
    rows = []
    for subject in models:
        rows.append(
            EncodingRow(
                subject.name,
                subject.card.positions,
                subject.n_ctx,
                loss_by_position(subject, texts, reach=reach),
                attention_by_distance(subject, n=n),
                head_catalogue(subject, n=n),
            )
        )
    return EncodingStudy(rows)
