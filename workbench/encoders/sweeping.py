"""The map of one pair: each cell a run with one activation replaced, a layer in one batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.encoders.reader import AT_ONCE, EncoderReader, encoder_reader
from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.hooked import PLAIN
from workbench.interp.engine.metrics import Metric, metric_of
from workbench.interp.engine.sites import SITES
from workbench.interp.patching.pair_maps import SMALLEST_SPAN
from workbench.interp.prompts.pairs import Pair
from workbench.subjects.encoder import Encoder


class Question(NamedTuple):
    """Two inputs without a batch axis, and the number of the class that each is asked about."""

    clean: Tensor
    corrupted: Tensor
    answer: int
    wrong: int

    @property
    def pair(self) -> Pair:
        """The classes as the engine's metrics read them, which look at no prompt."""
        none = torch.zeros(0, dtype=torch.long)
        return Pair(none, none, (self.answer,), (self.wrong,))


class Swept(NamedTuple):
    """One pair's map in the metric's unit, and the metric of its two unpatched runs."""

    values: Float[np.ndarray, "*axes"]
    clean: float
    corrupted: float
    checks: dict[str, float]


def sweep(
    encoder: Encoder, question: Question, site: str, direction: str, metric: str, *, checked: bool
) -> Swept:
    """The map of one pair.

    Args:
        encoder: The model.
        question: The two inputs (as `clean` and `corrupted`), and the class of each.
        site: What is patched.
        direction: Which of the two runs is patched.
        metric: What is measured.
        checked: Whether to check the runs as well.

    Raises:
        WorkbenchError: The site is not known in this model, or both runs measure the same.
    """
    reader = encoder_reader(encoder)
    if not site.startswith("resid_p") and reader.stream.unlike:
        raise WorkbenchError(
            f"In {reader.what} {reader.stream.unlike}, so only its streams can be patched; choose "
            "resid_pre or resid_post."
        )
    run = reader.record(torch.stack([question.clean, question.corrupted]))
    measure = metric_of(metric, question.pair, run.logits[0])
    clean, corrupted = measure(run.logits[:, None]).tolist()
    if not abs(clean - corrupted) >= SMALLEST_SPAN:
        raise WorkbenchError(
            f"Both runs give the same {metric.replace('_', ' ')} ({clean:.4f}), so there is "
            "nothing to restore; choose inputs or classes that the model tells apart."
        )
    target = 1 if direction == "denoising" else 0
    patched = question.corrupted if target else question.clean
    place = _Place(reader, run, target, site, patched)
    values = np.full(place.shape(), np.nan)
    for layer in range(values.shape[0]):
        inner = list(product(*map(range, values.shape[1:])))
        for start in range(0, len(inner), AT_ONCE):
            part = inner[start : start + AT_ONCE]
            logits = place.patched(layer, part)
            measured = measure(logits[:, None]).double().cpu().numpy()
            for cell, value in zip(part, measured, strict=True):
                values[(layer, *cell)] = value
    checks = _checks(encoder, place, measure, (clean, corrupted)) if checked else {}
    return Swept(values, clean, corrupted, checks)


@dataclass(frozen=True)
class _Place:
    """A site of a recorded pair: which activations replace which, and the run that they change."""

    reader: EncoderReader
    run: Recording
    target: int
    site: str
    values: Tensor

    def of(self, layer: int, side: int) -> Tensor:
        """The activation of one run at the site, without a batch axis."""
        after = int(self.site == "resid_post")
        return getattr(self.run, PLAIN[self.site])[layer + after][side]

    def shape(self) -> tuple[int, ...]:
        """The length of each axis of the map."""
        activation = self.of(0, 0)
        sizes = {"layer": len(self.reader.layers), "pos": len(activation)}
        sizes["head"] = activation.shape[1] if activation.ndim == 3 else 0
        return tuple(sizes[axis] for axis in SITES[self.site])

    def patched(
        self, layer: int, part: list[tuple[int, ...]], side: int | None = None
    ) -> Float[Tensor, "cell label"]:
        """The logits of runs in each of which one cell of a layer is replaced.

        Args:
            layer: The layer.
            part: The cells, without their layer.
            side: The run that replaces; None for the one that is not patched.
        """
        given = self.of(layer, 1 - self.target if side is None else side)

        def put(x: Tensor) -> Tensor:
            x = x.clone()  # [cell, pos, ...]
            for i, cell in enumerate(part):
                where = _where(self.site, cell)
                x[(i, *where)] = given[where]
            return x

        hook = {"z_by_pos": "z", "resid_mid": "attn_out"}.get(self.site, self.site)
        change: Callable[[Tensor], Tensor] = put
        if self.site == "resid_mid":
            # The stream also goes past the MLP, so attention's output is changed to make it so.
            before = self.run.resid[layer][self.target]
            change = lambda added: put(before + added) - before  # noqa: E731
        with self.reader.changed(hook, layer, change):
            return self.reader.run(self.values.expand(len(part), *self.values.shape))


def _where(site: str, cell: tuple[int, ...]) -> tuple[Any, ...]:
    """The index of a cell in an activation without its batch axis."""
    if site == "z":
        return slice(None), cell[0]
    return (cell[1], cell[0]) if site == "z_by_pos" else cell


def _checks(
    encoder: Encoder, place: _Place, measure: Metric, ends: tuple[float, float]
) -> dict[str, float]:
    """What must hold of any map: both runs, everything replaced, and nothing replaced."""
    both = torch.stack([place.values, place.values])
    own = float(measure(encoder.logits(both)[:, None])[0])
    everything = replace(place, site="resid_pre")
    given = everything.of(0, 1 - place.target)
    with place.reader.changed("resid_pre", 0, lambda x: given.expand_as(x).clone()):
        whole = float(measure(place.reader.run(place.values[None])[:, None])[0])
    half = place.shape()[0] // 2
    cell = tuple(0 for _ in place.shape()[1:])
    itself = float(measure(place.patched(half, [cell], place.target)[:, None])[0])
    return {
        "plain_model": abs(own - ends[place.target]),
        "full_patch": abs(whole - ends[1 - place.target]),
        "identity_patch": abs(itself - ends[place.target]),
    }
