"""Linear probes of every layer, each beside a control task.

A linear probe is trained on labelled texts and tested on others. *Selectivity* is its accuracy
above that of a control task, in which every word type (of labelled texts: every text) has a random
label (Hewitt & Liang 2019); the *description length* is what the labels cost in bits once the
activations are known (Voita & Titov 2020). That a layer encodes something does not mean that the
model uses it: steer along the direction and see.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

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
"""Share of the texts that a linear probe is tested on."""


@dataclass(frozen=True)
class Stage:
    """One stage's linear probe.

    95 % intervals are over the held-out texts (bits: over all texts), whole texts resampled.

    - `accuracy`, `control`: share of held-out readings that are right
    - `selectivity`: accuracy minus control, paired
    - `bits`, `control_bits`: mean code length of a label, in bits; knowing nothing costs log2 of
        the number of classes
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
    """A linear probe of each stage (0: the embedding, i: after layer i - 1).

    - `n`, `n_held`: readings, and how many of them are held out
    - `majority`: accuracy of always naming the commonest class of the training texts
    - `uniform_bits`: cost of a label without a linear probe
    - `directions`: the weights of each class at unit length, times the distance between its mean
        and the others' along them, in the activation's unit
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
        """The result in a few words."""
        best = self.best
        return (
            f"{self.labels} read off {self.site}: best at stage {best.stage}, accuracy "
            f"{best.accuracy.value:.3f} (control {best.control.value:.3f}, commonest class "
            f"{self.majority.value:.3f})"
        )

    @property
    def best(self) -> Stage:
        """The stage with the highest selectivity."""
        return max(self.stages, key=lambda s: s.selectivity.difference)

    def to_frame(self) -> pd.DataFrame:
        """One row per stage: accuracies, selectivity and bits, each with its interval."""
        rows = []
        for stage in self.stages:
            row: dict[str, Any] = {"stage": stage.stage}
            for name in ("accuracy", "control", "selectivity", "bits", "control_bits"):
                estimate = getattr(stage, name)
                row[name] = estimate.difference if name == "selectivity" else estimate.value
                row |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            rows.append({**row, "p": stage.selectivity.p, "strength": stage.strength})
        return pd.DataFrame(rows)

    def steering(
        self, label: str, layer: int, *, strength: float = 1.0, name: str = "probe", base: str = ""
    ) -> Intervention:
        """An intervention that adds a class's direction to the stream, at every position.

        Args:
            label: The class.
            layer: The layer after which it is added.
            strength: Factor; 1 moves the mean of the other classes to this class's mean.
            name: Name of the intervention.
            base: What `load` takes for the model.

        Raises:
            WorkbenchError: The class or layer was not probed, or the linear probe reads another
                site than the stream.
        """
        if self.site != STREAM:
            raise WorkbenchError(
                "Only directions of the stream can be added to it; this linear probe reads "
                f"{self.site}."
            )
        if not self.directions.size:
            raise WorkbenchError(
                "A linear probe that was read from JSON has no directions; train it again to steer "
                "by it."
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
    """A linear probe of every stage of a site, with its control, tested on held-out texts.

    Args:
        subject: The model.
        labels: One of `labels.LABELS`, or a file of your own.
        site: One of `stages.SITES`.
        layers: Probe only these layers' outputs (and the embedding, if the site has it); None for
            all.
        n: About how many readings; a quarter of the texts is held out.
        seed: For the texts drawn, the split and the control labels.
        progress: Called with the share done and a word about it.

    Raises:
        WorkbenchError: As `labelled` does, and if there is no such site or layer.

    Reference:
        Hewitt & Liang 2019, arXiv:1909.03368; Voita & Titov 2020, arXiv:2003.12298.
    """
    subject = cast(Subject, subject)
    tell = progress or (lambda share, words: None)
    stages = _wanted(subject, site, layers)
    data = labelled(subject, labels, n=n, seed=seed)
    values = read_stages(
        subject,
        [example.ids for example in data.examples],
        [example.at for example in data.examples],
        site=site,
        stages=stages,
        progress=lambda share, words: tell(0.3 * share, words),
    )
    task = _task(data, seed)
    results: list[Stage] = []
    directions: list[np.ndarray] = []
    for i, stage in enumerate(stages):
        tell(0.3 + 0.7 * i / len(stages), f"stage {stage}: linear probe, control and code length")
        result, direction = _stage(values[i], task, stage)
        results.append(result)
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
        results,
        estimate_mean(task.classes[task.held] == common, clusters=task.group[task.held].tolist()),
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
    """Every reading's class, control class and text (`group`), and which readings are held out."""

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
    bad = [layer for layer in layers if not 0 <= layer < n_layers]
    if bad:
        raise WorkbenchError(
            f"There is no layer {bad[0]}; {subject.name} has layers 0 to {n_layers - 1}."
        )
    return [s for s in stages if s == 0 or s - 1 in layers]


def _task(data: Labelled, seed: int) -> _Task:
    examples = data.examples
    label = [tag for example in examples for tag in example.label]
    words = [word for example in examples for word in example.word]
    number = {tag: i for i, tag in enumerate(data.classes)}
    group = np.repeat(np.arange(len(examples)), [len(example.at) for example in examples])
    n_held = max(1, round(HELD * len(examples)))
    held = np.random.default_rng(seed).permutation(len(examples)) < n_held
    return _Task(
        classes=np.array([number[tag] for tag in label]),
        control=np.array([number[tag] for tag in control_labels(words, label, seed)]),
        group=group,
        held=held[group],
        n_classes=len(data.classes),
    )


def _stage(values: np.ndarray, task: _Task, stage: int) -> tuple[Stage, np.ndarray]:
    clusters = task.group[task.held].tolist()
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
        estimate_mean(bits[0], clusters=task.group.tolist()),
        estimate_mean(bits[1], clusters=task.group.tolist()),
        probes[0].strength,
    )
    return result, _directions(values[~task.held], task.classes[~task.held], probes[0].weights)


def _directions(values: np.ndarray, classes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each class's weights at unit length, times its mean's distance to the others' along them."""
    directions = np.zeros_like(weights)
    for i, weight in enumerate(weights):
        own = classes == i
        length = np.linalg.norm(weight)
        if length and own.any() and not own.all():
            unit = weight / length
            directions[i] = unit * float((values[own].mean(0) - values[~own].mean(0)) @ unit)
    return directions
