"""The record of an anatomy: every step of one attention head with its numbers."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.interp.anatomy.steps import Step
from workbench.records import Record


@dataclass(frozen=True)
class Anatomy(Record):
    """The steps of one layer and head.

    - `next_tokens`: the likeliest tokens after the last position
    - `part`: which attention of an encoder-decoder model
    - `sources`: the tokens that cross-attention attends to; None for self-attention
    - `warnings`: how the prompt was read
    """

    subject: str
    sha256: str
    prompt: str
    tokens: list[str]
    layer: int
    head: int
    steps: list[Step]
    next_tokens: pd.DataFrame
    part: str = ""
    sources: list[str] | None = None
    warnings: list[str] = field(default_factory=list)

    def headline(self) -> str:
        """The result in a few words."""
        agreement = f"all agree within {self.deviation:.0e}"
        if self.disagreeing:
            agreement = f"{len(self.disagreeing)} disagree"
        return f"L{self.layer}H{self.head} in {len(self.steps)} steps, {agreement}"

    @property
    def deviation(self) -> float:
        """The largest deviation of any step."""
        return max(step.deviation for step in self.steps if step.deviation is not None)

    @property
    def disagreeing(self) -> list[Step]:
        """The steps whose formula is not what this model does."""
        return [step for step in self.steps if step.holds is False]

    def axes(self, step: Step) -> tuple[list[str], list[str] | None]:
        """The tokens of a step's rows, and of its columns (None if these are no keys)."""
        keys = self.sources or self.tokens
        return (keys if step.of_sources else self.tokens), (keys if step.over_keys else None)

    def numbers(self) -> pd.DataFrame:
        """Every number of every step, with its step, position, token, and column or key."""
        tables = []
        for i, step in enumerate(self.steps, 1):
            rows, keys = self.axes(step)
            row, column = (x.ravel() for x in np.indices(step.values.shape))
            named = {
                "step": f"{i} {step.name}",
                "position": row,
                "token": np.array(rows, object)[row],
            }
            key = None if keys is None else np.array(keys, object)[column]
            tables.append(
                pd.DataFrame({**named, "column": column, "key": key, "value": step.values.ravel()})
            )
        return pd.concat(tables, ignore_index=True)

    def to_frame(self) -> pd.DataFrame:
        """One row per step: name, shape, deviation."""
        return pd.DataFrame(
            [{"step": s.name, "shape": s.shape, "deviation": s.deviation} for s in self.steps]
        )
