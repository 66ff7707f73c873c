"""All cells of one map, by the packed engine in one go."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Branches, Recording
from workbench.interp.engine.map import Map
from workbench.interp.engine.metrics import SIDES, Metric, metric_of
from workbench.interp.engine.packed import PackedEngine, engine
from workbench.interp.engine.reader import Reader
from workbench.interp.engine.settings import Settings, either
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sources import (
    ablation_source,
    noised_input,
    source_by_name,
    source_of_run,
)
from workbench.interp.prompts.pairs import Pair
from workbench.progress import Progress
from workbench.subjects import Subject


@dataclass(frozen=True)
class Swept:
    """One prompt pair's map in the metric's unit, laid out by the site's axes.

    - `clean`, `corrupted`: the metric of the two unpatched runs
    - `first`: the first position whose cells were computed; before it a patch changes nothing
    - `parts`: one map per answer, if answers have several tokens
    """

    values: Float[Tensor, "*axes"]
    clean: float
    corrupted: float
    first: int
    metric: Metric = field(repr=False)
    parts: tuple["Swept", ...] = ()

    @property
    def effect(self) -> Float[Tensor, "*axes"]:
        """Normalised: 0 is the corrupted run, 1 the clean run."""
        return (self.values - self.corrupted) / (self.clean - self.corrupted)


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
        return (self.clean, self.corrupted)[self.map.target]

    def blank(self) -> Float[Tensor, "*axes"]:
        """A map on which no patch changes anything."""
        return torch.full(self.map.shape(), self.unpatched, dtype=self.map.run.resid[0].dtype)

    def swept(self, values: Float[Tensor, "*axes"]) -> "Swept":
        """The finished map with these values."""
        return Swept(values, self.clean, self.corrupted, self.map.first, self.metric)


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
    packed = packed or engine(subject)
    for layer in settings.layers(subject) if settings.site == "neurons" else ():
        packed.need_neurons(layer)
    ids = torch.stack([question.clean, question.corrupted])
    embed: Any = subject.model.get_input_embeddings()
    with torch.no_grad():
        embeddings = embed(ids)
    run = packed.record(ids)
    metric = metric_of(settings.metric, question, run.logits[0, -1])
    clean, corrupted = metric(run.logits).tolist()
    first = question.first_difference
    if settings.replacement == "noise":
        noised, embeddings = noised_input(subject, question, settings)
        run = packed.record(noised, embeddings)
        corrupted = float(metric(run.logits)[1])
    # Denoising puts clean activations (prompt 0) into the corrupted run (prompt 1).
    target = 1 if settings.direction == "denoising" else 0
    replacement = source_of_run(run, 1 - target)
    if settings.ablates:
        target = 0
        first = 0  # an ablation changes every position, not only those where the prompts differ
        replacement = ablation_source(subject, run, settings, question.fed)
    run.logits = torch.empty(0)  # by far the largest part of it
    cells = Map(
        packed,
        run,
        target,
        replacement,
        settings.site,
        first,
        tuple(settings.layers(subject)),
        window=settings.window,
        also=settings.also,
        fed=question.fed,
    )
    return Prepared(cells, metric, clean, corrupted, embeddings)


def run_sweep(
    subject: Subject, question: Pair, settings: Settings, progress: Progress | None = None
) -> Swept:
    """All cells of a map by the packed engine.

    Args:
        subject: The model.
        question: The prompts and their answers.
        settings: What is swept.
        progress: Called with the share done and a word about it.

    Raises:
        UnpackableError: The engine cannot run the model.
    """
    if question.places:
        return _run_named(subject, question, settings, progress)
    if question.parts:
        return together(
            question, settings, lambda part, how: run_sweep(subject, part, how, progress)
        )
    ready = prepare(subject, question, settings)
    values = _carry_all(ready.map, ready.metric, ready.unpatched, settings, progress)
    by_pos = SITES[settings.site][-1] == "pos"
    return ready.swept(values[..., : values.shape[-1] - question.fed] if by_pos else values)


def together(question: Pair, settings: Settings, run: Callable[[Pair, Settings], Swept]) -> Swept:
    """The map of answers of several tokens, combined from one map per answer.

    Maps by position have the prompt's positions only; on all other maps a head or neuron is
    replaced at every position, the answer's own tokens included.

    Args:
        question: The prompts, with `parts`.
        settings: What is swept; its metric must be one of `SIDES`.
        run: Sweeps one answer's log-probability.
    """
    k = len(question.answers)
    log_prob = replace(settings, metric="log_prob")
    parts = tuple(run(part, log_prob) for part in question.parts)

    def of(logs: Float[Tensor, "*axes answer"]) -> Float[Tensor, "*axes"]:
        return SIDES[settings.metric](logs[..., :k], logs[..., k:])

    ends = torch.tensor([[part.clean, part.corrupted] for part in parts], dtype=torch.float64)
    clean, corrupted = of(ends.T).tolist()
    values = of(torch.stack([part.values for part in parts], -1))
    return Swept(
        values,
        clean,
        corrupted,
        question.first_difference,
        Metric(settings.metric, None, of),
        parts,
    )


def _run_named(
    subject: Subject, question: Pair, settings: Settings, progress: Progress | None
) -> Swept:
    """The map over named positions of prompts of any lengths."""
    if settings.replacement != "other" or SITES[settings.site][-1] != "pos" or settings.several:
        by_pos = [site for site, axes in SITES.items() if axes[-1] == "pos"]
        raise WorkbenchError(
            "Named positions go with sites by position and with the other run's activations; sweep "
            f"{either(by_pos)} without a window."
        )
    packed = engine(subject)
    runs = [packed.record(ids[None]) for ids in question.prompts]
    metric = metric_of(settings.metric, question, runs[0].logits[0, -1])
    clean, corrupted = (float(metric(run.logits)[0]) for run in runs)
    target = 1 if settings.direction == "denoising" else 0
    source = 1 - target
    places = [(at[source], at[target]) for _, *at in question.places]
    replacement = source_by_name(runs[source], runs[target], places)
    at = tuple(here for _, here in places)
    layers = tuple(settings.layers(subject))
    first = question.first_difference
    cells = Map(packed, runs[target], 0, replacement, settings.site, first, layers, at=at)
    unpatched = (clean, corrupted)[target]
    values = _carry_all(cells, metric, unpatched, settings, progress)[..., list(at)]
    begins = next((i for i, here in enumerate(at) if here >= first), len(at))
    return Swept(values, clean, corrupted, begins, metric)


def _carry_all(
    swept: Map, metric: Metric, unpatched: float, settings: Settings, progress: Progress | None
) -> Tensor:
    """Every cell of a map, in parts that fit the memory; NaN where no patch came."""
    values = swept.start(unpatched)
    packed = swept.packed
    assert isinstance(packed, PackedEngine)
    chunks = split(list(swept.branches()), swept.run, settings.memory_gb)
    for i, chunk in enumerate(chunks):
        for branch, finals in packed.carry(swept.run, swept.target, chunk, last=metric.reads):
            measured = metric.of(packed.logits(finals, metric.tokens))
            values[branch.key] = measured.cpu().to(values.dtype)
        if progress is not None:
            progress((i + 1) / len(chunks), f"{settings.site}: part {i + 1} of {len(chunks)}")
    return values


def split(branches: list[Branches], run: Recording, memory_gb: float) -> list[list[Branches]]:
    """Branches in chunks, each of which fits the memory at the widest moment of a pass.

    Args:
        branches: All branches of a map.
        run: The recorded run, for the sizes.
        memory_gb: The limit, in GiB.
    """
    # A row takes about eight streams (queries, keys, values, norms) and three times the neurons.
    numbers = 8 * run.resid[0].shape[-1] + 3 * run.post[0].shape[-1]
    row_bytes = run.resid[0].element_size() * numbers
    limit = max(1, int(memory_gb * 2**30 / row_bytes))
    n_pos = run.resid[0].shape[1]
    chunks: list[list[Branches]] = [[]]
    rows = 0
    for branch in sorted(branches, key=lambda b: (b.pos, b.layer)):
        size = branch.n * (n_pos - branch.pos)
        if rows + size > limit and chunks[-1]:
            chunks.append([])
            rows = 0
        chunks[-1].append(branch)
        rows += size
    return chunks


def sweep(
    subject: Subject,
    question: Pair,
    site: str = "resid_pre",
    direction: str = "denoising",
    *,
    memory_gb: float = 1.0,
    progress: Progress | None = None,
) -> tuple[Float[Tensor, "layer other"], tuple[float, float]]:
    """The logit difference of every cell, and those of the clean and the corrupted run.

    A short form of `run_sweep`.

    Args:
        subject: The model.
        question: The prompts and their answers.
        site: What is patched, one of `SITES`.
        direction: One of `DIRECTIONS`.
        memory_gb: Limit for the packed rows, in GiB.
        progress: Called with the share done and a word about it.

    Raises:
        UnpackableError: The engine cannot run the model.
    """
    settings = Settings(site, direction, memory_gb=memory_gb)
    swept = run_sweep(subject, question, settings, progress)
    return swept.values, (swept.clean, swept.corrupted)
