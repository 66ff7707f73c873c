"""What maps need before their first patch: both runs of every pair, recorded together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.interp.engine.branches import Recording
from workbench.interp.engine.map import Map
from workbench.interp.engine.metrics import Metric, metric_of
from workbench.interp.engine.packed import engine
from workbench.interp.engine.reader import Reader
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sources import ablation_source, noised_input, source_of_run
from workbench.interp.prompts.pairs import Pair
from workbench.subjects import Subject


@dataclass(frozen=True)
class Prepared:
    """What a map needs before its first patch.

    - `map`: the cells to sweep, with the recorded runs
    - `clean`, `corrupted`: the metric of the two unpatched runs
    - `embeddings`: of the two runs, `[2, pos, d_model]`
    """

    map: Map
    metric: Metric
    clean: float
    corrupted: float
    embeddings: Float[Tensor, "run pos d_model"]

    @property
    def unpatched(self) -> float:
        """The metric of the run that is patched."""
        return (self.clean, self.corrupted)[self.map.target % 2]

    def blank(self) -> Float[Tensor, "*axes"]:
        """A map on which no patch changes anything."""
        return torch.full(self.map.shape(), self.unpatched, dtype=self.map.run.resid[0].dtype)


def prepare(
    subject: Subject, question: Pair, settings: Settings, packed: Reader | None = None
) -> Prepared:
    """Both runs recorded, and all else that a map needs.

    Args:
        subject: The model.
        question: The prompts and their answers.
        settings: What is swept.
        packed: What records the runs; None for the packed engine.

    Raises:
        UnpackableError: The engine cannot run the model, and no other reader is given.
    """
    return prepare_all(subject, [question], settings, packed)[0]


def prepare_all(
    subject: Subject,
    questions: Sequence[Pair],
    settings: Settings,
    packed: Reader | None = None,
) -> list[Prepared]:
    """What the map of each question needs; all runs are prompts of one recording.

    Args:
        subject: The model.
        questions: Prompts of one length, and their answers. The recording holds the clean run of
            question i as prompt 2 i and its corrupted run as prompt 2 i + 1.
        settings: What is swept.
        packed: What records the runs; None for the packed engine.

    Raises:
        UnpackableError: The engine cannot run the model, and no other reader is given.
    """
    packed = packed or engine(subject)
    for layer in settings.layers(subject) if settings.site == "neurons" else ():
        packed.need_neurons(layer)
    ids = torch.stack([prompt for question in questions for prompt in question.prompts])
    embed: Any = subject.model.get_input_embeddings()
    with torch.no_grad():
        embeddings = embed(ids)
    run = packed.record(ids)
    metrics = [
        metric_of(settings.metric, question, run.logits[2 * i, -1])
        for i, question in enumerate(questions)
    ]
    ends = _measured(run, metrics)
    if settings.replacement == "noise":
        # The clean runs stay as they are, since each question's first row has no noise.
        noised = [noised_input(subject, question, settings) for question in questions]
        embeddings = torch.cat([rows for _, rows in noised])
        run = packed.record(torch.cat([rows for rows, _ in noised]), embeddings)
        ends = [
            (clean, corrupted)
            for (clean, _), (_, corrupted) in zip(ends, _measured(run, metrics), strict=True)
        ]
    # Of the logits, by far the largest part, what the metrics read is all that is needed on.
    run.logits = run.logits[:, -max(metric.reads for metric in metrics) :].clone()
    shared = None
    if settings.ablates:
        shared = ablation_source(subject, run, settings, questions[0].fed)
    layers = tuple(settings.layers(subject))
    ready = []
    for i, question in enumerate(questions):
        # Denoising puts clean activations (prompt 2 i) into the corrupted run (prompt 2 i + 1).
        target = 2 * i + (settings.direction == "denoising" and not settings.ablates)
        cells = Map(
            packed,
            run,
            target,
            shared or source_of_run(run, target ^ 1),
            settings.site,
            # An ablation changes every position, not only those where the prompts differ.
            0 if settings.ablates else question.first_difference,
            layers,
            window=settings.window,
            also=settings.also,
            fed=question.fed,
        )
        ready.append(Prepared(cells, metrics[i], *ends[i], embeddings[2 * i : 2 * i + 2]))
    return ready


def _measured(run: Recording, metrics: Sequence[Metric]) -> list[tuple[float, float]]:
    """The metric of the clean and the corrupted run of every question."""
    values = [metric(run.logits[2 * i : 2 * i + 2]) for i, metric in enumerate(metrics)]
    return [(float(clean), float(corrupted)) for clean, corrupted in values]
