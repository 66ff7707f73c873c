"""All cells of one map: by the packed engine in one go, or by TransformerLens's hooks one run a
cell.
"""

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
    """One question's map in the metric's unit, laid out by the site's axes, and the two unpatched
    runs.

    `first` is the first position whose cells were computed: before it a patch changes nothing.
    `parts` are the maps of the answers, one by one, where they have several tokens.
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
    """What a map needs before its first patch: both runs recorded, the metric, its value in them,
    what comes in.

    `embeddings` are those of the two runs, `[2, pos, d_model]`.
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
        """The map with every cell as the run that is patched leaves it."""
        return torch.full(self.map.shape(), self.unpatched, dtype=self.map.run.resid[0].dtype)

    def swept(self, values: Float[Tensor, "*axes"]) -> "Swept":
        """A finished map."""
        return Swept(values, self.clean, self.corrupted, self.map.first, self.metric)


def prepare(
    subject: Subject, question: Pair, settings: Settings, packed: Reader | None = None
) -> Prepared:
    """Record what the map needs.

    Raises `UnpackableError` where the engine cannot run the model and no other reader (`packed`) is
    given.
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
    source, target = (0, 1) if settings.direction == "denoising" else (1, 0)
    come_in = source_of_run(run, source)
    if settings.ablates:
        target, first = 0, 0
        come_in = ablation_source(subject, run, settings, question.fed)
    run.logits = torch.empty(0)  # by far the largest part of it
    layers, more = tuple(settings.layers(subject)), {"also": settings.also, "fed": question.fed}
    found = Map(packed, run, target, come_in, settings.site, first, layers, settings.window, **more)
    return Prepared(found, metric, clean, corrupted, embeddings)


def run_sweep(
    subject: Subject, question: Pair, settings: Settings, progress: Progress | None = None
) -> Swept:
    """All cells of a map by the packed engine. Raises `UnpackableError` where the engine cannot run
    the model.
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
    """The map of answers of several tokens: `run` gives each one's log-probability, and the metric
    is theirs.

    Maps by position have the prompt's positions; at all others a head or neuron is replaced
    throughout, the answer's own tokens included.
    """
    k, how = len(question.answers), replace(settings, metric="log_prob")
    parts = tuple(run(part, how) for part in question.parts)

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
    """The map over named positions: prompts of any lengths, each name patched where it stands in
    either.
    """
    if settings.replacement != "other" or SITES[settings.site][-1] != "pos" or settings.several:
        raise WorkbenchError(
            "Named positions go with sites by position and with the other run's activations; sweep "
            f"{either([site for site, axes in SITES.items() if axes[-1] == 'pos'])} without a window."
        )
    packed = engine(subject)
    runs = [packed.record(ids[None]) for ids in question.prompts]
    metric = metric_of(settings.metric, question, runs[0].logits[0, -1])
    clean, corrupted = (float(metric(run.logits)[0]) for run in runs)
    source, target = (0, 1) if settings.direction == "denoising" else (1, 0)
    places = [(place[1 + source], place[1 + target]) for place in question.places]
    come_in = source_by_name(runs[source], runs[target], places)
    at = tuple(here for _, here in places)
    layers, first = tuple(settings.layers(subject)), question.first_difference
    swept = Map(packed, runs[target], 0, come_in, settings.site, first, layers, at=at)
    values = _carry_all(swept, metric, (clean, corrupted)[target], settings, progress)[
        ..., list(at)
    ]
    begins = next((i for i, here in enumerate(at) if here >= first), len(at))
    return Swept(values, clean, corrupted, begins, metric)


def _carry_all(
    swept: Map, metric: Metric, unpatched: float, settings: Settings, progress: Progress | None
) -> Tensor:
    """Every cell of a map, in parts that fit the memory; NaN where no patch came."""
    values = swept.start(unpatched)
    packed, run, target = swept.packed, swept.run, swept.target
    assert isinstance(packed, PackedEngine)
    chunks = split(list(swept.branches()), run, settings.memory_gb)
    for i, chunk in enumerate(chunks):
        for branch, finals in packed.carry(run, target, chunk, last=metric.reads):
            values[branch.key] = (
                metric.of(packed.logits(finals, metric.tokens)).cpu().to(values.dtype)
            )
        if progress is not None:
            progress((i + 1) / len(chunks), f"{settings.site}: part {i + 1} of {len(chunks)}")
    return values


def split(branches: list[Branches], run: Recording, memory_gb: float) -> list[list[Branches]]:
    """Split branches so that the widest moment of a pass stays within the budget."""
    row_bytes = run.resid[0].element_size() * (
        8 * run.resid[0].shape[-1] + 3 * run.post[0].shape[-1]
    )
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
    """The logit difference of every cell, and of the clean and the corrupted run: `run_sweep` in
    one line.

    Raises `UnpackableError` for an architecture that the engine cannot run.
    """
    found = run_sweep(subject, question, Settings(site, direction, memory_gb=memory_gb), progress)
    return found.values, (found.clean, found.corrupted)
