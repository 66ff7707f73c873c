"""After which layer is the prediction made? The logit lens of two Subjects on the same texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.comparison.matching import need, same_ids
from workbench.comparison.text import TEXTS
from workbench.interp.lenses.lens import Lens, lens
from workbench.modes import own_modes
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject

LENGTH = 32
"""Tokens of a text, as the lens unembeds each of them after every layer."""
Report = Callable[[float, str], None]
"""Called with (share done, message)."""


@dataclass(frozen=True)
class LensShift(Record):
    """Both models' lenses on the same texts; stage 0: the embedding, stage i: after layer i - 1."""

    base: str
    tuned: str
    lenses: list[tuple[Lens, Lens]]

    def samples(self, what: str = "kl") -> Float[np.ndarray, "model text stage"]:
        """A lens's measure of each model, averaged over the positions of each text.

        Args:
            what: "kl", the divergence of the lens from the model's output in nats, or "rank", that
                of the model's top token in the lens.
        """
        base = [getattr(lens_base, what).mean(-1) for lens_base, _ in self.lenses]
        tuned = [getattr(lens_tuned, what).mean(-1) for _, lens_tuned in self.lenses]
        return np.array([base, tuned], float)

    def to_frame(self, what: str = "kl") -> pd.DataFrame:
        """One row a stage: both models and their paired difference, with 95 % intervals."""
        base, tuned = self.samples(what)
        frame = pd.DataFrame({"stage": range(base.shape[1]), "n": len(base)})
        for name, values in (("base", base), ("tuned", tuned), ("difference", tuned - base)):
            mean, low, high = mean_interval(values)
            frame[name] = mean
            frame[f"{name}_low"] = low
            frame[f"{name}_high"] = high
        return frame

    def lines(self, what: str = "kl") -> pd.DataFrame:
        """One row a model and stage: model, stage, value, low, high, n.

        The embedding (stage 0) is left out: its divergence is so large that it would hide the rest.
        """
        frame = self.to_frame(what).query("stage > 0")
        sides = [
            frame[["stage", "n"]].assign(
                model=f"{side}: {name}",
                value=frame[side],
                low=frame[f"{side}_low"],
                high=frame[f"{side}_high"],
            )
            for side, name in (("base", self.base), ("tuned", self.tuned))
        ]
        return pd.concat(sides, ignore_index=True)

    def words(self, text: int = 0, pos: int = -1) -> pd.DataFrame:
        """Both lenses' top token and its probability at one position, one row a stage.

        Args:
            text: Index of the text.
            pos: Position in it.
        """
        pair = self.lenses[text]
        frame = pd.DataFrame({"stage": range(len(pair[0].top))})
        for name, side in zip(("base", "tuned"), pair, strict=True):
            frame[name] = [row[pos] for row in side.top]
            frame[f"p_{name}"] = side.prob[:, pos]
        return frame


@own_modes
def lens_shift(
    base: Subject,
    tuned: Subject,
    texts: Sequence[str] | None = None,
    *,
    progress: Report | None = None,
) -> LensShift:
    """The logit lens of both models on the same texts, each with its own unembedding.

    Args:
        base: The model before.
        tuned: The model after.
        texts: The first `LENGTH` tokens of each are read; by default four of `TEXTS`.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the models differ in tokenizer or shape.
    """
    need(base, tuned, "layers")
    texts = TEXTS[2:6] if texts is None else texts
    lenses = []
    rows = same_ids(base, tuned, texts, LENGTH)
    for i, ids in enumerate(rows):
        text = base.text(ids[0], skip_special=True)
        pair = []
        for j, subject in enumerate((base, tuned)):
            if progress is not None:
                progress((2 * i + j) / len(rows) / 2, f"lens of text {i + 1} of {len(rows)}")
            pair.append(lens(subject, text))
        lenses.append((pair[0], pair[1]))
    return LensShift(base.name, tuned.name, lenses)
