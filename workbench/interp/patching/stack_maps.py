"""Patching maps of encoders and encoder-decoders: many patched runs as one batch, by hooks.

Nothing of a bidirectional run is known beforehand, as every position sees the patched one, so there
is no packing. Each cell is a row of a batch, and each row has its own activation replaced.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.metrics import Metric, metric_of
from workbench.interp.engine.settings import Settings, either
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sweep import Swept
from workbench.interp.prompts.gaps import Gap
from workbench.interp.stacks.runs import Change, Place, Stacks, stacks_of
from workbench.interp.stacks.structure import CROSS, ENCODER
from workbench.progress import Progress
from workbench.subjects import Subject

ENGINE = "hooks, many runs in one batch"
FIELDS = {"z_by_pos": "z", "neurons": "post"}
"""The field of a `Place` that holds a site, where it bears another name."""
OF_CROSS = ("resid_mid", "attn_out", "z", "q", "k", "v", "pattern", "z_by_pos")
"""The sites of cross-attention; the others stand in the stream or MLP, which are the decoder's."""
MOST_RUNS = 256
"""Patched runs in one batch."""
Cell = tuple[int, ...]


class Patch(NamedTuple):
    """One activation that is replaced: its place, the index after the batch axis, the new value."""

    place: Place
    where: tuple[Any, ...]
    value: Tensor


@dataclass(frozen=True)
class Sweep:
    """What a map needs before its first patch.

    - `target`, `source`: which of the two runs is patched, and which one gives
    - `taken`: the activations of both runs, `[2, ...]` by place
    - `logits`: of both runs where the answer is read, `[2, 1, vocab]`
    """

    stacks: Stacks
    gap: Gap
    part: str
    settings: Settings
    target: int
    source: int
    taken: dict[Place, Tensor]
    logits: Float[Tensor, "2 1 vocab"]

    @property
    def layers(self) -> list[int]:
        """The layers that are swept."""
        if self.settings.layer is not None:
            return [self.settings.layer]
        return list(range(self.stacks.n_layers(self.part)))

    def shape(self) -> tuple[int, ...]:
        """The length of each axis of the map."""
        field = FIELDS.get(self.settings.site, self.settings.site)
        name = "resid_pre" if field == "resid_mid" else field
        one = self.taken[Place(self.part, name, self.layers[0])]
        heads = one.shape[1] if field in ("z", "q", "k", "v", "pattern") else 0
        n_pos = one.shape[2] if field == "z" else one.shape[1]
        sizes = {"layer": len(self.layers), "pos": n_pos, "head": heads, "neuron": one.shape[-1]}
        return tuple(sizes[axis] for axis in SITES[self.settings.site])

    def given(self, place: Place) -> Tensor:
        """What is put in at a place, `[pos, ...]` without the batch axis."""
        value = self.taken[place][self.source]
        return torch.zeros_like(value) if self.settings.ablates else value

    def patches(self, cell: Cell) -> list[Patch]:
        """The activations that are replaced in a cell's run."""
        settings = self.settings
        at = dict(zip(SITES[settings.site], cell, strict=True))
        layer = self.layers[at["layer"]]
        if settings.site == "resid_mid":
            return [self._mid(layer, at["pos"])]
        if settings.site == "pattern":  # with its queries and keys a head has the other pattern
            return [self._at(site, layer, (at["head"],)) for site in ("q", "k")]
        if settings.several:
            low = max(0, layer - (settings.window - 1) // 2)
            high = min(self.stacks.n_layers(self.part), layer + settings.window // 2 + 1)
            sites = [site for site in (settings.site, settings.also) if site]
            pairs = product(range(low, high), sites)
            return [self._at(site, i, (at["pos"],)) for i, site in pairs]
        where = {
            "z_by_pos": (at.get("head"), at.get("pos")),
            "neurons": (slice(None), at.get("neuron")),
        }.get(settings.site, (cell[-1],))
        return [self._at(FIELDS.get(settings.site, settings.site), layer, where)]

    def _at(self, field: str, layer: int, where: tuple[Any, ...]) -> Patch:
        place = Place(self.part, field, layer)
        return Patch(place, where, self.given(place)[where])

    def _mid(self, layer: int, pos: int) -> Patch:
        """The stream after an attention; a sum is changed by what the attention adds to it."""
        if self.stacks.layer(self.part, layer).mid is not None:
            return self._at("mid", layer, (pos,))
        own = self.before(layer, self.target)
        wanted = self.before(layer, self.source) + self.added(layer, self.source)
        return Patch(Place(self.part, "attn_out", layer), (pos,), (wanted - own)[pos])

    def before(self, layer: int, run: int) -> Float[Tensor, "pos d_model"]:
        """The stream before an attention."""
        stream = self.taken[Place(self.part, "resid_pre", layer)][run]
        if self.part == CROSS:
            stream = stream + self.taken[Place("decoder", "attn_out", layer)][run]
        return stream

    def added(self, layer: int, run: int) -> Float[Tensor, "pos d_model"]:
        """What an attention adds to the stream."""
        return self.taken[Place(self.part, "attn_out", layer)][run]


def check_settings(settings: Settings, stacks: Stacks, part: str) -> None:
    """Raise `WorkbenchError` for a setting that has no meaning in a part.

    Args:
        settings: What is swept.
        stacks: The model.
        part: Which part of it.
    """
    if settings.replacement not in ("other", "zero"):
        raise WorkbenchError(
            f"An encoder or encoder-decoder is patched from the other run, or with zeros; choose "
            f"the replacement 'other' or 'zero', not {settings.replacement!r}."
        )
    if part == CROSS and settings.site not in OF_CROSS:
        raise WorkbenchError(
            f"{settings.site} stands in the decoder and not in its cross-attention; choose "
            f"{either(list(OF_CROSS))}, or the part 'decoder'."
        )
    layer = stacks.layer(part, 0)
    if settings.site == "resid_mid" and layer.mid is None and not stacks.structure.sums:
        raise WorkbenchError(
            f"The stream between attention and MLP of {stacks.what} is not known here; choose "
            "another site than resid_mid."
        )


def prepare(subject: Subject, gap: Gap, settings: Settings, part: str) -> Sweep:
    """Both runs, with the activations that a map needs.

    Args:
        subject: The model.
        gap: The prompts and their answers.
        settings: What is swept.
        part: Which part of the model.

    Raises:
        WorkbenchError: A setting has no meaning, or the model has no such activation.
    """
    stacks = stacks_of(subject)
    check_settings(settings, stacks, part)
    target = 1 if settings.direction == "denoising" and not settings.ablates else 0
    taken: dict[Place, Tensor] = {}

    def keeping(place: Place) -> Change:
        def keep(x: Tensor) -> Tensor:
            taken[place] = x
            return x

        return keep

    ids = torch.stack(list(gap.question.prompts))
    changes = {place: keeping(place) for place in _needed(settings, stacks, part)}
    logits = gap.of(stacks.run(ids, _repeated(gap, 2), changes))
    return Sweep(stacks, gap, part, settings, target, 1 - target, taken, logits)


def _needed(settings: Settings, stacks: Stacks, part: str) -> list[Place]:
    """The places whose activations a map needs."""
    fields = {FIELDS.get(settings.site, settings.site), *([settings.also] if settings.also else [])}
    if settings.site == "pattern":
        fields = {"pattern", "q", "k"}
    layers = range(stacks.n_layers(part))
    if settings.site != "resid_mid":
        return [Place(part, field, layer) for field in sorted(fields) for layer in layers]
    if stacks.layer(part, 0).mid is not None:
        return [Place(part, field, layer) for field in ("mid", "resid_pre") for layer in layers]
    sums = [Place(part, field, layer) for field in ("resid_pre", "attn_out") for layer in layers]
    return sums + [Place("decoder", "attn_out", layer) for layer in layers if part == CROSS]


def _repeated(gap: Gap, n: int) -> Tensor | None:
    return None if gap.written is None else gap.written.expand(n, -1)


def run_patches(sweep: Sweep, each: Sequence[Sequence[Patch]]) -> Float[Tensor, "n 1 vocab"]:
    """The logits where the answer is read, of one patched run for each list of patches.

    Args:
        sweep: From `prepare`.
        each: What is replaced in each run.
    """
    n = len(each)
    by_place: dict[Place, list[tuple[int, Patch]]] = {}
    for row, patches in enumerate(each):
        for patch in patches:
            by_place.setdefault(patch.place, []).append((row, patch))

    def putting(rows: list[tuple[int, Patch]]) -> Change:
        def put(x: Tensor) -> Tensor:
            x = x.clone()
            for row, patch in rows:
                x[(row, *patch.where)] = patch.value
            return x

        return put

    changes = {place: putting(rows) for place, rows in by_place.items()}
    ids = sweep.gap.question.prompts[sweep.target].expand(n, -1)
    return sweep.gap.of(sweep.stacks.run(ids, _repeated(sweep.gap, n), changes))


def stack_sweep(
    sweep: Sweep, metric: Metric, progress: Progress | None = None, cells: list[Cell] | None = None
) -> Swept:
    """All cells of a map.

    Args:
        sweep: From `prepare`.
        metric: From `metric_for`.
        progress: Called with the share done and a word about it.
        cells: Cells to compute, one run at a time, the others stay NaN; None for all.
    """
    values = torch.full(sweep.shape(), float("nan"), dtype=sweep.logits.dtype)
    todo = list(product(*map(range, values.shape))) if cells is None else cells
    size = 1 if cells is not None else _batch(sweep)
    for start in range(0, len(todo), size):
        part = todo[start : start + size]
        logits = run_patches(sweep, [sweep.patches(cell) for cell in part])
        for cell, value in zip(part, metric(logits).tolist(), strict=True):
            values[cell] = value
        if progress is not None:
            done = start + len(part)
            progress(done / len(todo), f"{sweep.settings.site}: {done} of {len(todo)} patched runs")
    clean, corrupted = metric(sweep.logits).tolist()
    return Swept(values, clean, corrupted, 0, metric)


def metric_for(sweep: Sweep) -> Metric:
    """The metric of the settings, bound to the question."""
    return metric_of(sweep.settings.metric, sweep.gap.question, sweep.logits[0, 0])


def _batch(sweep: Sweep) -> int:
    """How many runs fit into the memory that a sweep may take."""
    n_pos = len(sweep.gap.question.clean) + (
        0 if sweep.gap.written is None else len(sweep.gap.written)
    )
    embed = sweep.stacks.model.get_input_embeddings().weight
    vocab, d_model = embed.shape
    # A layer keeps about sixteen streams and three patterns at its widest; all logits come whole.
    numbers = n_pos * (16 * d_model + 3 * sweep.stacks.n_heads * n_pos + 2 * vocab)
    room = sweep.settings.memory_gb * 2**30 / (numbers * embed.element_size())
    return max(1, min(MOST_RUNS, int(room)))


@torch.no_grad()
def stack_checks(subject: Subject, sweep: Sweep, swept: Swept, *, audit: int) -> dict[str, float]:
    """The checks of a map, as differences in the metric's unit; see `trust.WORDS`.

    Args:
        subject: The model.
        sweep: From `prepare`.
        swept: The map.
        audit: Random cells to recompute, one whole run each.
    """
    gap = sweep.gap
    ends = (swept.clean, swept.corrupted)
    plain = [swept.metric(gap.of(_plain(subject, gap, side)))[0] for side in (0, 1)]
    checks = {
        "not_fired": float(torch.isnan(swept.values).sum()),
        "plain_model": max(abs(float(a) - b) for a, b in zip(plain, ends, strict=True)),
    }
    generator = torch.Generator().manual_seed(sweep.settings.seed)
    cells = [
        tuple(int(torch.randint(n, (1,), generator=generator)) for n in swept.values.shape)
        for _ in range(max(1, audit))
    ]
    if audit:
        again = stack_sweep(sweep, swept.metric, cells=cells).values
        checks["hooked_cells"] = max(abs(float(again[c] - swept.values[c])) for c in cells)
    itself = Sweep(**{**vars(sweep), "source": sweep.target})
    if not sweep.settings.ablates:
        logits = run_patches(itself, [itself.patches(cell) for cell in cells])
        checks["null_pair"] = float((swept.metric(logits) - ends[sweep.target]).abs().max())
    if sweep.stacks.layer(ENCODER, 0).block is not None and not sweep.settings.ablates:
        checks["full_patch"] = _full_patch(sweep, swept.metric, ends[sweep.source])
    return checks


def _plain(subject: Subject, gap: Gap, side: int) -> Tensor:
    """The plain model's logits on one of the prompts."""
    given: dict[str, Any] = {"input_ids": gap.question.prompts[side][None]}
    if gap.written is not None:
        given |= {"decoder_input_ids": gap.written[None], "use_cache": False}
    model: Callable[..., Any] = subject.model
    return model(**given).logits


def _full_patch(sweep: Sweep, metric: Metric, expected: float) -> float:
    """How far the run is from the other one where all of its text's first stream comes from it."""
    place = Place(ENCODER, "resid_pre", 0)
    streams: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        streams.append(x)
        return x

    other = sweep.gap.question.prompts[sweep.source][None]
    sweep.stacks.run(other, _repeated(sweep.gap, 1), {place: keep})
    whole = Patch(place, (slice(None),), streams[0][0])
    return abs(float(metric(run_patches(sweep, [[whole]]))[0]) - expected)
