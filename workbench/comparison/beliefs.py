"""When do the layers make up their mind? The logit lens of two Subjects side by side."""

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
"""Tokens of a text: every one is unembedded after every layer."""
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class LensShift(Record):
    """Both models' lenses on the same texts; stage 0 is the embedding, stage i after layer i - 1."""

    base: str
    tuned: str
    lenses: list[tuple[Lens, Lens]]

    def samples(self, what: str = "kl") -> Float[np.ndarray, "model text stage"]:
        """Means over a text's positions: `kl` of the model's own last word from the layer (nats),
        or `rank` of it.
        """
        return np.array(
            [[getattr(pair[i], what).mean(-1) for pair in self.lenses] for i in (0, 1)], float
        )

    def to_frame(self, what: str = "kl") -> pd.DataFrame:
        """One row a stage: both models and the paired difference, each with its 95 % interval over
        texts.
        """
        base, tuned = self.samples(what)
        frame = pd.DataFrame({"stage": range(base.shape[1]), "n": len(base)})
        for name, values in (("base", base), ("tuned", tuned), ("difference", tuned - base)):
            frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = mean_interval(values)
        return frame

    def lines(self, what: str = "kl") -> pd.DataFrame:
        """One row a model and stage: model, stage, value, low, high, n.

        The bare embedding (stage 0) is left out: it is so far off that it would flatten the rest.
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
        """What each layer of both would say at one position of one text, with its probability."""
        pair = self.lenses[text]
        frame = pd.DataFrame({"stage": range(len(pair[0].top))})
        for name, found in zip(("base", "tuned"), pair, strict=True):
            frame[name] = [row[pos] for row in found.top]
            frame[f"p_{name}"] = found.prob[:, pos]
        return frame


@own_modes
def lens_shift(
    base: Subject,
    tuned: Subject,
    texts: Sequence[str] | None = None,
    *,
    progress: Report | None = None,
) -> LensShift:
    """Read every layer of both through its own model's unembedding, on the first `LENGTH` tokens of
    each text.

    Raises `WorkbenchError` for another tokenizer or shape.
    """
    need(base, tuned, "layers")
    texts = TEXTS[2:6] if texts is None else texts
    found, rows = [], same_ids(base, tuned, texts, LENGTH)
    for i, ids in enumerate(rows):
        text = base.text(ids[0], skip_special=True)
        pair = []
        for j, subject in enumerate((base, tuned)):
            if progress is not None:
                progress((2 * i + j) / len(rows) / 2, f"lens of text {i + 1} of {len(rows)}")
            pair.append(lens(subject, str(text)))
        found.append((pair[0], pair[1]))
    return LensShift(base.name, tuned.name, found)
