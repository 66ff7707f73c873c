"""Linear probes: what can be read off each layer, beside what a probe of that size reads in
nothing.

A probe is trained on labelled texts and tested on others. *Selectivity* is its accuracy above that
of a control task, in which every word type (of labelled texts: every text) has a random label
(Hewitt & Liang 2019); the *description length* is what the labels cost in bits once the activations
are known (Voita & Titov 2020). That a layer knows something does not say that the model uses it:
steer along the direction and see.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.errors import WorkbenchError
from workbench.interp.linear.fit import code_lengths, fit
from workbench.interp.linear.labels import Labelled, control_labels, labelled
from workbench.interp.linear.stages import STREAM, read_stages, stages_of
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Difference, Estimate, estimate_mean, paired_difference
from workbench.subjects import Subject, SubjectOrName
from workbench.subjects.intervention import Edit, Intervention

HELD = 0.25
"""Share of the texts that a probe is tested on."""


@dataclass(frozen=True)
class Stage:
    """One stage's probe; 95 % intervals over the held-out texts (bits: over all texts), whole texts
    resampled.

    - `accuracy`, `control`: share of held-out readings that are right; `selectivity`: the first
        less the second, paired
    - `bits`, `control_bits`: mean code length of a label, in bits; knowing nothing costs log2 of
        the classes
    - `strength`: the inverse penalty that cross-validation chose
    """

    stage: int
    accuracy: Estimate
    control: Estimate
    selectivity: Difference
    bits: Estimate
    control_bits: Estimate
    strength: float


@dataclass(frozen=True)
class LinearProbe(Record):
    """What can be read off each stage (0: the embedding, i: after layer i - 1), on `n` readings,
    `n_held` held out.

    `majority` is the accuracy of always naming the commonest class of the training texts,
    `uniform_bits` the cost of a label without a probe. `directions` is `[stage, class, width]`: the
    probe's weights at unit length times the distance between the class's mean and the others' along
    them, in the activation's unit.
    """

    subject: str
    sha256: str
    labels: str
    title: str
    level: str
    source: str
    site: str
    classes: tuple[str, ...]
    stages: list[Stage]
    majority: Estimate
    uniform_bits: float
    n: int
    n_held: int
    n_texts: int
    dropped: dict[str, int]
    seed: int
    directions: Float[np.ndarray, "stage class width"] = field(
        repr=False, default_factory=lambda: np.empty(0)
    )

    OMITTED = ("directions",)

    def headline(self) -> str:
        """What was found, in a few words."""
        best = self.best
        return (
            f"{self.labels} read off {self.site}: best at stage {best.stage}, accuracy {best.accuracy.value:.3f} "
            f"(control {best.control.value:.3f}, commonest class {self.majority.value:.3f})"
        )

    @property
    def best(self) -> Stage:
        """The stage with the highest selectivity."""
        return max(self.stages, key=lambda s: s.selectivity.difference)

    def to_frame(self) -> pd.DataFrame:
        """One row a stage: accuracies, selectivity and bits, each with its interval."""
        rows = []
        for stage in self.stages:
            row: dict[str, Any] = {"stage": stage.stage}
            for name in ("accuracy", "control", "selectivity", "bits", "control_bits"):
                found = getattr(stage, name)
                row[name] = found.difference if name == "selectivity" else found.value
                row |= {f"{name}_low": found.low, f"{name}_high": found.high}
            rows.append({**row, "p": stage.selectivity.p, "strength": stage.strength})
        return pd.DataFrame(rows)

    def steering(
        self, label: str, layer: int, *, strength: float = 1.0, name: str = "probe", base: str = ""
    ) -> Intervention:
        """An intervention that adds this class's direction to the stream after `layer`, at every
        position.

        At strength 1 the mean of the other classes moves to this class's mean along the direction.
        Raises `WorkbenchError` for a class or a layer that was not probed, and for a probe of
        another site than the stream.
        """
        if self.site != STREAM:
            raise WorkbenchError(
                f"Only directions of the stream can be added to it; this probe reads {self.site}."
            )
        if not self.directions.size:
            raise WorkbenchError(
                "A probe that was read from JSON has no directions; train it again to steer by it."
            )
        if label not in self.classes:
            raise WorkbenchError(
                f"There is no class {label!r}; choose one of {', '.join(self.classes)}."
            )
        at = next((i for i, stage in enumerate(self.stages) if stage.stage == layer + 1), None)
        if at is None:
            probed = ", ".join(str(s.stage - 1) for s in self.stages if s.stage)
            raise WorkbenchError(f"Layer {layer} was not probed; there are layers {probed}.")
        vector = self.directions[at, self.classes.index(label)] * strength
        words = (
            f"{strength:g} x the direction of {label} ({self.title.lower()}), after layer {layer}"
        )
        return Intervention(name, base, (Edit(layer, STREAM, (), "add", vector.tolist()),), words)


@public("subject")
@own_modes
def linear_probe(
    subject: SubjectOrName,
    labels: str = "number",
    *,
    site: str = STREAM,
    layers: Sequence[int] | None = None,
    n: int = 1500,
    seed: int = 0,
    progress: Progress | None = None,
) -> LinearProbe:
    """Train a linear probe on every stage of a site, with its control, and test it on texts it has
    not seen.

    Args:
        subject: The model.
        labels: One of `labelled.LABELS`, or a file of the user's.
        site: One of `activations.SITES`.
        layers: Only what these layers leave (the embedding is always among them where the site has
            it); None for all.
        n: Readings, about; a quarter of the texts is held out.
        seed: Of the texts drawn, the split and the control labels.
        progress: Called with the share done and a word about it.

    Raises `WorkbenchError` as `labelled` does, and for a site or layer that does not exist.
    """
    tell = progress or (lambda share, words: None)
    stages = _wanted(subject, site, layers)
    data = labelled(subject, labels, n=n, seed=seed)
    sequences, at = [e.ids for e in data.examples], [e.at for e in data.examples]
    values = read_stages(
        subject,
        sequences,
        at,
        site=site,
        stages=stages,
        progress=lambda share, words: tell(0.3 * share, words),
    )
    task = _task(data, seed)
    found, directions = [], []
    for i, stage in enumerate(stages):
        tell(0.3 + 0.7 * i / len(stages), f"stage {stage}: probe, control and code length")
        one, direction = _stage(values[i], task, stage)
        found.append(one)
        directions.append(direction)
    common = int(np.bincount(task.classes[~task.held]).argmax())
    return LinearProbe(
        subject.name,
        subject.hash,
        data.name,
        data.title,
        data.level,
        data.source,
        site,
        data.classes,
        found,
        estimate_mean(task.classes[task.held] == common, clusters=task.group[task.held]),
        float(np.log2(len(data.classes))),
        data.n,
        int(task.held.sum()),
        len(data.examples),
        data.dropped,
        seed,
        np.stack(directions),
    )


@dataclass(frozen=True)
class _Task:
    """Classes and control classes of every reading, the text it belongs to, and which are held out."""

    classes: np.ndarray
    control: np.ndarray
    group: np.ndarray
    held: np.ndarray
    n_classes: int


def _wanted(subject: Subject, site: str, layers: Sequence[int] | None) -> list[int]:
    stages = stages_of(subject, site)
    if layers is None:
        return stages
    n_layers = subject.card.n_layers
    if bad := [layer for layer in layers if not 0 <= layer < n_layers]:
        raise WorkbenchError(
            f"There is no layer {bad[0]}; {subject.name} has layers 0 to {n_layers - 1}."
        )
    return [s for s in stages if s == 0 or s - 1 in layers]


def _task(data: Labelled, seed: int) -> _Task:
    label = [tag for e in data.examples for tag in e.label]
    words = [word for e in data.examples for word in e.word]
    number = {tag: i for i, tag in enumerate(data.classes)}
    group = np.repeat(np.arange(len(data.examples)), [len(e.at) for e in data.examples])
    held = np.random.default_rng(seed).permutation(len(data.examples)) < max(
        1, round(HELD * len(data.examples))
    )
    classes, control = (
        np.array([number[t] for t in side]) for side in (label, control_labels(words, label, seed))
    )
    return _Task(classes, control, group, held[group], len(data.classes))


def _stage(values: np.ndarray, task: _Task, stage: int) -> tuple[Stage, np.ndarray]:
    clusters = task.group[task.held]
    probes = [
        fit(values, c, task.group, task.held, task.n_classes) for c in (task.classes, task.control)
    ]
    bits = [
        code_lengths(values, c, task.group, task.n_classes, probe.strength)
        for c, probe in zip((task.classes, task.control), probes, strict=True)
    ]
    right = [probe.right for probe in probes]
    result = Stage(
        stage,
        estimate_mean(right[0], clusters=clusters),
        estimate_mean(right[1], clusters=clusters),
        paired_difference(right[1], right[0], clusters=clusters),
        estimate_mean(bits[0], clusters=task.group),
        estimate_mean(bits[1], clusters=task.group),
        probes[0].strength,
    )
    return result, _directions(values[~task.held], task.classes[~task.held], probes[0].weights)


def _directions(values: np.ndarray, classes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each class's weights at unit length, times how far its mean lies from the others' along them."""
    found = np.zeros_like(weights)
    for i, weight in enumerate(weights):
        own = classes == i
        length = np.linalg.norm(weight)
        if length and own.any() and not own.all():
            unit = weight / length
            found[i] = unit * float((values[own].mean(0) - values[~own].mean(0)) @ unit)
    return found
