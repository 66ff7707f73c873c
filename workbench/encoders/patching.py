"""Patching of two pictures or sounds: what one activation of the one does in a run of the other.

Every cell is one run of the model with an activation replaced by the other run's at the same layer
and position (or head), exactly; the cells of a layer run as one batch. Over several pairs each cell
has an interval and a p-value. Words, sites and metrics are those of patching text.
"""

import time
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.encoders.reader import AT_ONCE
from workbench.encoders.reading import stacked
from workbench.encoders.signals import Signal, position_names
from workbench.encoders.sweeping import Question, Swept, sweep
from workbench.errors import WorkbenchError
from workbench.interp.engine.settings import DIRECTIONS, either
from workbench.interp.engine.sites import SITES
from workbench.interp.patching.pair_maps import SMALLEST_SPAN, cells
from workbench.interp.patching.trust import failed
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record, peak
from workbench.statistics import Estimate, cell_statistics, estimate_mean
from workbench.subjects.encoder import Encoder, EncoderOrName

ENCODER_SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "z_by_pos")
"""The sites that are swept: those that plain hooks reach, but for neurons."""
ENCODER_METRICS = ("logit_difference", "prob_difference", "log_prob", "prob")
ALPHA = 0.05


@dataclass(frozen=True)
class EncoderPatching(Record):
    """A patching map over `n` pairs; arrays are laid out as `axes`.

    - `effect`: mean normalised effect (0 corrupted runs, 1 clean runs), with `low` and `high`, its
      95 % interval, and `p`, corrected over the cells; NaN for fewer than six pairs
    - `metric`: mean in the unit of `metric_name`
    - `clean_metric`, `corrupted_metric`: of the unpatched runs
    - `answers`, `wrongs`: the class that each clean and each corrupted run is asked about
    - `tokens`, `special`, `grid`: positions, as in `EncoderAttention`
    - `checks`: of the first pair, as differences in the metric's unit
    """

    subject: str
    sha256: str
    site: str
    axes: tuple[str, ...]
    direction: str
    metric_name: str
    effect: Float[np.ndarray, "*axes"]
    low: Float[np.ndarray, "*axes"]
    high: Float[np.ndarray, "*axes"]
    p: Float[np.ndarray, "*axes"]
    metric: Float[np.ndarray, "*axes"]
    clean_metric: Estimate
    corrupted_metric: Estimate
    clean: list[str]
    corrupted: list[str]
    answers: list[str]
    wrongs: list[str]
    tokens: list[str]
    special: int
    grid: tuple[int, int]
    n: int
    seconds: float
    checks: dict[str, float]
    values: str

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the first pair's inputs."""
        return {"first pair": self.values}

    def failed_checks(self) -> list[str]:
        """The checks that failed, in words."""
        return failed(self.checks)

    def headline(self) -> str:
        """The result in a few words."""
        return f"{self.site}, {self.direction}: {peak(self.to_frame(), 'effect', self.axes)}"

    def on_patches(self, layer: int) -> Float[np.ndarray, "row column"]:
        """The effects of one layer on its patches, of a site by position alone.

        Raises:
            WorkbenchError: The site has heads, or there is no such layer.
        """
        if self.axes != ("layer", "pos") or not 0 <= layer < len(self.effect):
            raise WorkbenchError(
                f"The map of {self.site} has no layer {layer} by patches; sweep resid_pre and "
                "choose one of its layers."
            )
        return self.effect[layer, self.special :].reshape(self.grid)

    def to_frame(self) -> pd.DataFrame:
        """One row per cell: the axes, `effect` with `low`, `high` and `p`, and `metric`."""
        maps = {name: getattr(self, name) for name in ("effect", "low", "high", "p", "metric")}
        return cells(self.axes, [], **maps)


@public("encoder", signals=True)
@own_modes
@torch.no_grad()
def encoder_patching(
    encoder: EncoderOrName,
    clean: Any,
    corrupted: Any,
    *,
    answer: str | int | list[Any] | None = None,
    wrong: str | int | list[Any] | None = None,
    site: str = "resid_pre",
    direction: str = "denoising",
    metric: str = "logit_difference",
    progress: Progress | None = None,
) -> EncoderPatching:
    """The patching map of pairs of pictures or sounds: one site over the whole model, exactly.

    Args:
        encoder: A model with a classifier.
        clean: The input with the right answer, or a list (or array) of such inputs.
        corrupted: The other input of each pair, of the same length.
        answer: The class of the clean input, or one a pair; None for what the model takes it for.
        wrong: The class of the corrupted input, in the same way.
        site: What is patched, one of `ENCODER_SITES`.
        direction: One of `DIRECTIONS`.
        metric: One of `ENCODER_METRICS`.
        progress: Called with the share that is done, and a few words.

    Raises:
        WorkbenchError: Inputs, classes or settings do not fit.
    """
    encoder = cast(Encoder, encoder)
    encoder.need_classes("patching")
    _check(site, direction, metric)
    began = time.perf_counter()
    pairs, answers, wrongs = _pairs(encoder, clean, corrupted, answer, wrong)
    maps: list[Swept] = []
    for i, (one, other) in enumerate(pairs):
        question = Question(one.values, other.values, answers[i], wrongs[i])
        maps.append(sweep(encoder, question, site, direction, metric, checked=not i))
        if progress is not None:
            progress((i + 1) / len(pairs), f"pair {i + 1} of {len(pairs)}")
    return _summary(encoder, pairs, (answers, wrongs), (site, direction, metric), maps, began)


def _check(site: str, direction: str, metric: str) -> None:
    for what, value, known in (
        ("site", site, ENCODER_SITES),
        ("direction", direction, DIRECTIONS),
        ("metric", metric, ENCODER_METRICS),
    ):
        if value not in known:
            raise WorkbenchError(f"The {what} is {value!r}; choose {either(list(known))}.")


def _pairs(
    encoder: Encoder, clean: Any, corrupted: Any, answer: Any, wrong: Any
) -> tuple[list[tuple[Signal, Signal]], list[int], list[int]]:
    """The pairs, and the number of each one's answer and wrong answer."""
    ours, values = stacked(encoder, clean)
    theirs, others = stacked(encoder, corrupted)
    if len(ours) != len(theirs) or values.shape != others.shape:
        raise WorkbenchError(
            f"There are {len(ours)} clean and {len(theirs)} corrupted {encoder.modality}s, or they "
            "differ in length; give pairs of one length."
        )
    answers = _classes(encoder, answer, values)
    wrongs = _classes(encoder, wrong, others)
    for i, (one, other) in enumerate(zip(answers, wrongs, strict=True)):
        if one == other:
            raise WorkbenchError(
                f"Pair {i + 1} has the class {encoder.labels[one]!r} on both sides; choose inputs "
                "or classes that differ."
            )
    return list(zip(ours, theirs, strict=True)), answers, wrongs


def _classes(encoder: Encoder, given: Any, values: Tensor) -> list[int]:
    """The class of each input: as given, or what the model takes it for."""
    if given is None:
        parts = [encoder.logits(batch).argmax(-1) for batch in values.split(AT_ONCE)]
        return torch.cat(parts).tolist()
    listed = given if isinstance(given, list) else [given] * len(values)
    if len(listed) != len(values):
        raise WorkbenchError(
            f"There are {len(values)} pairs and {len(listed)} classes; give one each, or one for "
            "all."
        )
    return [encoder.label_id(label) for label in listed]


def _summary(
    encoder: Encoder,
    pairs: list[tuple[Signal, Signal]],
    classes: tuple[list[int], list[int]],
    settings: tuple[str, str, str],
    maps: list[Swept],
    began: float,
) -> EncoderPatching:
    """The maps of all pairs as one, each cell with its interval."""
    site, direction, metric = settings
    clean = np.array([swept.clean for swept in maps])
    corrupted = np.array([swept.corrupted for swept in maps])
    span = float((clean - corrupted).mean())
    if abs(span) < SMALLEST_SPAN:
        raise WorkbenchError(
            f"Over {len(maps)} pairs both runs give the same {metric.replace('_', ' ')} on "
            "average, so there is nothing to restore; choose other pairs or classes."
        )
    values = np.stack([swept.values for swept in maps])
    shape = (-1,) + (1,) * (values.ndim - 1)
    unpatched = (corrupted if direction == "denoising" else clean).reshape(shape)
    change = cell_statistics(values - unpatched, per=clean - corrupted)
    effect = (values - corrupted.reshape(shape)).mean(0) / span
    offset = effect - change.mean
    names = [encoder.labels[i] for i in classes[0]], [encoder.labels[i] for i in classes[1]]
    first, second = pairs[0]
    return EncoderPatching(
        subject=encoder.name,
        sha256=encoder.hash,
        site=site,
        axes=SITES[site],
        direction=direction,
        metric_name=metric,
        effect=effect,
        low=change.low + offset,
        high=change.high + offset,
        p=change.p,
        metric=values.mean(0),
        clean_metric=estimate_mean(clean),
        corrupted_metric=estimate_mean(corrupted),
        clean=[one.name for one, _ in pairs],
        corrupted=[other.name for _, other in pairs],
        answers=names[0],
        wrongs=names[1],
        tokens=position_names(encoder, first.grid),
        special=len(encoder.family.special),
        grid=(first.grid.rows, first.grid.columns),
        n=len(maps),
        seconds=time.perf_counter() - began,
        checks=maps[0].checks,
        values=f"{first.key} {second.key}",
    )
