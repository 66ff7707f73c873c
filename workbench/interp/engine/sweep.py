"""All cells of one map, by the packed engine in one go."""

from collections.abc import Callable, Iterator, Sequence
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
from workbench.interp.engine.prepare import prepare_all
from workbench.interp.engine.settings import Settings, either
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sources import source_by_name
from workbench.interp.prompts.pairs import Pair
from workbench.progress import Progress, within
from workbench.subjects import Subject

TOGETHER = 8
"""Pairs whose patched runs share their passes: more are no faster."""

TOGETHER_TOKENS = 1024
"""Tokens of all prompts that share passes, since everything of them is recorded."""

READ_OUT = 2**24
"""Logits that are computed at once."""


@dataclass(frozen=True)
class Swept:
    """One prompt pair's map in the metric's unit, laid out by the site's axes.

    - `clean`, `corrupted`: the metric of the two unpatched runs
    - `first`: the first position whose cells were computed; before it a patch changes nothing
    - `parts`: one map per answer, if answers have several tokens
    - `run`: the recorded clean and corrupted run (of the logits, the end), where it was this map's
        alone
    """

    values: Float[Tensor, "*axes"]
    clean: float
    corrupted: float
    first: int
    metric: Metric = field(repr=False)
    parts: tuple["Swept", ...] = ()
    run: Recording | None = field(default=None, repr=False, compare=False)

    @property
    def effect(self) -> Float[Tensor, "*axes"]:
        """Normalised: 0 is the corrupted run, 1 the clean run."""
        return (self.values - self.corrupted) / (self.clean - self.corrupted)


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
    return run_sweeps(subject, [question], settings, progress)[0]


def run_sweeps(
    subject: Subject,
    questions: Sequence[Pair],
    settings: Settings,
    progress: Progress | None = None,
) -> list[Swept]:
    """The maps of several questions by the packed engine, in shared passes where lengths agree.

    Args:
        subject: The model.
        questions: The prompts and their answers.
        settings: What is swept.
        progress: Called with the share done and a word about it.

    Raises:
        UnpackableError: The engine cannot run the model.
    """
    maps: list[Swept] = []
    for batch in _batches(questions):
        report = within(progress, len(maps) / len(questions), len(batch) / len(questions))
        if batch[0].places or batch[0].parts:
            maps.append(run_sweep(subject, batch[0], settings, report))
        else:
            maps += _run_together(subject, batch, settings, report)
    return maps


def _batches(questions: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Neighbours that can be carried in one pass, at most `TOGETHER` of them."""

    def kind(question: Pair) -> tuple[int, int]:
        return len(question.clean), question.fed

    batch: list[Pair] = []
    for question in questions:
        alone = bool(question.places or question.parts)
        full = len(batch) == min(TOGETHER, max(1, TOGETHER_TOKENS // len(question.clean)))
        if batch and (alone or full or kind(batch[0]) != kind(question)):
            yield batch
            batch = []
        batch.append(question)
        if alone:
            yield batch
            batch = []
    if batch:
        yield batch


def _run_together(
    subject: Subject, questions: list[Pair], settings: Settings, progress: Progress | None
) -> list[Swept]:
    """The maps of questions of one length, every pass shared by all of them."""
    ready = prepare_all(subject, questions, settings)
    maps = [(one.map, one.metric, one.unpatched) for one in ready]
    by_pos = SITES[settings.site][-1] == "pos"
    swept = []
    carried = _carry_all(maps, settings, progress)
    for one, values in zip(ready, carried, strict=True):
        fed = one.map.fed
        values = values[..., : values.shape[-1] - fed] if by_pos else values
        ends = (one.clean, one.corrupted)
        # A lone question's checks go on with the run that is recorded.
        run = one.map.run if len(ready) == 1 and settings.replacement != "noise" else None
        swept.append(Swept(values, *ends, one.map.first, one.metric, run=run))
    return swept


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
    values = _carry_all([(cells, metric, unpatched)], settings, progress)[0][..., list(at)]
    begins = next((i for i, here in enumerate(at) if here >= first), len(at))
    return Swept(values, clean, corrupted, begins, metric)


def _carry_all(
    maps: Sequence[tuple[Map, Metric, float]], settings: Settings, progress: Progress | None
) -> list[Tensor]:
    """Every cell of maps of one recording, in parts that fit the memory; NaN where no patch came.

    Args:
        maps: Each map with its metric and the metric of its unpatched run.
        settings: What is swept.
        progress: Called with the share done and a word about it.
    """
    values = [swept.start(unpatched) for swept, _, unpatched in maps]
    packed = maps[0][0].packed
    run = maps[0][0].run
    assert isinstance(packed, PackedEngine)
    branches = []
    for i, (swept, _, _) in enumerate(maps):
        branches += [replace(branch, key=(i, branch.key)) for branch in swept.branches()]
    chunks = split(branches, run, settings.memory_gb)
    reads = maps[0][1].reads
    for done, chunk in enumerate(chunks):
        by_map: dict[int, list[tuple[Any, Tensor]]] = {}
        for branch, finals in packed.carry(run, chunk, last=reads):
            i, key = branch.key
            by_map.setdefault(i, []).append((key, finals))
        for i, ends in by_map.items():
            _read_off(packed, maps[i][1], ends, values[i])
        if progress is not None:
            words = f"{settings.site}: part {done + 1} of {len(chunks)}"
            progress((done + 1) / len(chunks), words)
    return values


def _read_off(
    packed: PackedEngine, metric: Metric, ends: list[tuple[Any, Tensor]], values: Tensor
) -> None:
    """Put the metric of every carried run into its cell; all runs are read at once."""
    finals = torch.cat([final for _, final in ends])  # [run, read, d_model]
    n_tokens = packed.unembed.weight.shape[0] if metric.tokens is None else len(metric.tokens)
    # Whole vocabularies are read some runs at a time: 64 MB of logits in float32.
    parts = finals.split(max(1, READ_OUT // (n_tokens * finals.shape[1])))
    measured = torch.cat([metric.of(packed.logits(part, metric.tokens)) for part in parts])
    sizes = [len(final) for _, final in ends]
    for (key, _), value in zip(ends, measured.cpu().to(values.dtype).split(sizes), strict=True):
        values[key] = value


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
