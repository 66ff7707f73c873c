"""Activation patching: what the answer becomes when one activation of a run is taken from another run.

*Denoising* puts clean activations into the corrupted run, *noising* corrupted ones into the clean run. Effects are
normalised: 0 is the corrupted run, 1 the clean run. Method: Vig et al. 2020, Meng et al. 2022; practice: Heimersheim
& Nanda 2024. The values are exact (no gradient approximation).
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.packed import Branches, PackedEngine, Recording, UnpackableError, engine
from workbench.subjects import Subject

SITES = {
    "resid_pre": ("layer", "pos"),
    "resid_post": ("layer", "pos"),
    "attn_out": ("layer", "pos"),
    "mlp_out": ("layer", "pos"),
    "z": ("layer", "head"),
}
"""The sites that can be swept, with the axes of their map."""

DIRECTIONS = ("denoising", "noising")


@dataclass(frozen=True)
class Patching:
    """A sweep's result: one cell a patched run.

    - `effect`: normalised (0 corrupted, 1 clean), laid out as `axes`; `metric`: the same in logits
    - `clean_metric`, `corrupted_metric`: the logit difference of the two unpatched runs
    - `clean_tokens`, `corrupted_tokens`: one string a position; `n`: prompt pairs averaged (1: no interval)
    - `checks`: what was verified on this very map, as differences in logits
    """

    subject: str
    sha256: str
    site: str
    axes: tuple[str, ...]
    direction: str
    effect: list[list[float]]
    metric: list[list[float]]
    clean_metric: float
    corrupted_metric: float
    clean: str
    corrupted: str
    answer: str
    wrong: str
    clean_tokens: list[str]
    corrupted_tokens: list[str]
    first_difference: int
    seconds: float
    engine: str
    n: int = 1
    metric_name: str = "logit_difference"
    checks: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """One row a cell: the axes, `effect` and `metric`."""
        rows = [
            {self.axes[0]: i, self.axes[1]: j, "effect": e, "metric": m}
            for i, (effects, metrics) in enumerate(zip(self.effect, self.metric, strict=True))
            for j, (e, m) in enumerate(zip(effects, metrics, strict=True))
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class Pair:
    """A tokenised question: two prompts of equal length that lead to different answers."""

    clean: Int[Tensor, " pos"]
    corrupted: Int[Tensor, " pos"]
    answer: int
    wrong: int

    @property
    def first_difference(self) -> int:
        """The first position at which the prompts differ."""
        return int((self.clean != self.corrupted).nonzero()[0])


def pair(subject: Subject, clean: str, corrupted: str, answer: str, wrong: str) -> Pair:
    """Tokenise and check a prompt pair.

    Raises `WorkbenchError` for prompts of different length (showing the first tokens that differ), equal prompts,
    and answers that are not one token each.
    """
    a, b = subject.encode(clean, "clean prompt")[0], subject.encode(corrupted, "corrupted prompt")[0]
    if len(a) != len(b):
        differ = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        shown = [" ".join(map(repr, subject.tokens(x[differ : differ + 4]))) or "its end" for x in (a, b)]
        raise WorkbenchError(
            f"The clean prompt has {len(a)} tokens and the corrupted one {len(b)}; they must be equal. They part at "
            f"token {differ + 1}: {shown[0]} against {shown[1]}. Choose words of as many tokens each."
        )
    if torch.equal(a, b):
        raise WorkbenchError("The clean and the corrupted prompt are the same; change the words the answer hangs on.")
    ids = [subject.answer_id(answer, "answer"), subject.answer_id(wrong, "wrong answer")]
    if ids[0] == ids[1]:
        raise WorkbenchError(f"The answer and the wrong answer are both {answer!r}; give two different ones.")
    return Pair(a, b, *ids)


def patch(
    subject: Subject,
    clean: str,
    corrupted: str,
    *,
    answer: str,
    wrong: str,
    site: str = "resid_pre",
    direction: str = "denoising",
    audit: int = 1,
    memory_gb: float = 1.0,
    progress: Callable[[float, str], None] | None = None,
) -> Patching:
    """Sweep one site over the whole model, exactly.

    The metric is the logit difference `answer - wrong` at the last position. `audit` random cells are recomputed by
    TransformerLens's hooks, one run each, and the greatest difference is reported in `checks`. The packed rows are
    kept below `memory_gb`. Architectures that the packed engine cannot run go through the hooks, and say so.

    Raises `WorkbenchError` for anything wrong with the prompts, the answers, the site or the direction.
    """
    if site not in SITES:
        raise WorkbenchError(f"The site is {site!r}; choose one of {', '.join(SITES)}.")
    if direction not in DIRECTIONS:
        raise WorkbenchError(f"The direction is {direction!r}; choose denoising or noising.")
    question = pair(subject, clean, corrupted, answer, wrong)
    began, how = time.perf_counter(), "packed"
    try:
        values, ends = sweep(subject, question, site, direction, memory_gb=memory_gb, progress=progress)
    except UnpackableError as error:
        values, ends = hooked_sweep(subject, question, site, direction, progress=progress)
        how = f"hooks ({error})"
    seconds = time.perf_counter() - began
    span = ends[0] - ends[1]
    if abs(span) < 1e-6:
        raise WorkbenchError(
            f"The clean and the corrupted run give the same logit difference ({ends[0]:.4f}), so there is nothing to "
            "restore; choose prompts or answers that the model tells apart."
        )
    checks = _checks(subject, question, site, direction, values, ends, audit if how == "packed" else 0)
    return Patching(
        subject=subject.name,
        sha256=subject.hash,
        site=site,
        axes=SITES[site],
        direction=direction,
        effect=((values - ends[1]) / span).tolist(),
        metric=values.tolist(),
        clean_metric=ends[0],
        corrupted_metric=ends[1],
        clean=clean,
        corrupted=corrupted,
        answer=answer,
        wrong=wrong,
        clean_tokens=subject.tokens(question.clean),
        corrupted_tokens=subject.tokens(question.corrupted),
        first_difference=question.first_difference,
        seconds=seconds,
        engine=how,
        checks=checks,
    )


def sweep(
    subject: Subject,
    question: Pair,
    site: str = "resid_pre",
    direction: str = "denoising",
    *,
    memory_gb: float = 1.0,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Float[Tensor, "layer other"], tuple[float, float]]:
    """All cells of a map by the packed engine, in logits, and the metric of the clean and the corrupted run.

    Raises `UnpackableError` for an architecture that the engine cannot run.
    """
    packed = engine(subject)
    recording = packed.record(torch.stack([question.clean, question.corrupted]))
    source, target = (0, 1) if direction == "denoising" else (1, 0)
    tokens = torch.tensor([question.answer, question.wrong], device=question.clean.device)
    both = packed.logits(recording.resid[-1][:, -1], tokens)
    ends = (both[:, 0] - both[:, 1]).tolist()
    branches = _branches(packed, recording, source, target, site, question.first_difference)
    n_other = recording.z[0].shape[2] if SITES[site][1] == "head" else len(question.clean)
    values = torch.full((len(packed.layers), n_other), ends[target], dtype=recording.resid[0].dtype)
    chunks = _chunks(branches, recording, memory_gb)
    for i, chunk in enumerate(chunks):
        for branch, finals in packed.carry(recording, target, chunk):
            logits = packed.logits(finals, tokens)
            layer, other = branch.key
            values[layer, other] = (logits[:, 0] - logits[:, 1]).cpu()
        if progress is not None:
            progress((i + 1) / len(chunks), f"{site}: part {i + 1} of {len(chunks)}")
    return values, (ends[0], ends[1])


def _branches(packed: PackedEngine, run: Recording, source: int, target: int, site: str, first: int) -> list[Branches]:
    """The patched runs of a map; cells before the first differing token are the target run itself and need none."""
    n_layers, n_pos = len(packed.layers), run.resid[0].shape[1]
    found = []
    if site == "z":
        pos = torch.arange(first, n_pos, device=run.resid[0].device)
        for layer in range(n_layers):
            z = run.z[layer][target, pos]
            n_heads = z.shape[1]
            patched = z.expand(n_heads, -1, -1, -1).clone()
            for head in range(n_heads):
                patched[head, :, head] = run.z[layer][source, pos, head]
            rows = packed.block(run, target, layer, pos, z=patched)
            found.append(Branches(layer + 1, first, rows, (layer, slice(None))))
        return found
    for layer in range(n_layers):
        enters = layer if site == "resid_pre" else layer + 1
        if site.startswith("resid"):
            changed = run.resid[enters][source]
        else:
            pos = torch.arange(first, n_pos, device=run.resid[0].device)
            given = {site: getattr(run, site)[layer][source, pos].unsqueeze(0)}
            changed = run.resid[enters][target].clone()
            changed[first:] = packed.block(run, target, layer, pos, **given)[0]
        for p in range(first, n_pos):
            if enters == n_layers and p < n_pos - 1:
                continue  # after the last block, nothing moves from this position to the answer's
            rows = run.resid[enters][target, p:].clone()
            rows[0] = changed[p]
            found.append(Branches(enters, p, rows.unsqueeze(0), (layer, slice(p, p + 1))))
    return found


def _chunks(branches: list[Branches], run: Recording, memory_gb: float) -> list[list[Branches]]:
    """Split branches so that the widest moment of a pass stays within the budget."""
    d_mlp = 4 * run.resid[0].shape[-1]
    row_bytes = run.resid[0].element_size() * (8 * run.resid[0].shape[-1] + 3 * d_mlp)
    limit = max(1, int(memory_gb * 2**30 / row_bytes))
    chunks: list[list[Branches]] = [[]]
    rows = 0
    for branch in sorted(branches, key=lambda b: (b.pos, b.layer)):
        size = branch.rows.shape[0] * branch.rows.shape[1]
        if rows + size > limit and chunks[-1]:
            chunks.append([])
            rows = 0
        chunks[-1].append(branch)
        rows += size
    return chunks


def _checks(
    subject: Subject, question: Pair, site: str, direction: str, values: Tensor, ends: tuple[float, float], audit: int
) -> dict[str, float]:
    """Differences in logits: the ends against the plain model, and random cells against one hooked run each."""
    with torch.no_grad():
        logits = subject.model(torch.stack([question.clean, question.corrupted])).logits[:, -1]
    plain = logits[:, question.answer] - logits[:, question.wrong]
    checks = {"plain_model": float((plain.cpu() - torch.tensor(ends, dtype=plain.dtype)).abs().max())}
    if audit:
        generator = torch.Generator().manual_seed(0)
        first = question.first_difference if SITES[site][1] == "pos" else 0
        cells = [
            (
                int(torch.randint(values.shape[0], (1,), generator=generator)),
                int(torch.randint(first, values.shape[1], (1,), generator=generator)),
            )
            for _ in range(audit)
        ]
        again, _ = hooked_sweep(subject, question, site, direction, cells=cells)
        checks["hooked_cells"] = max(abs(float(again[c] - values[c])) for c in cells)
    return checks


def hooked_sweep(
    subject: Subject,
    question: Pair,
    site: str,
    direction: str = "denoising",
    *,
    cells: list[tuple[int, int]] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Float[Tensor, "layer other"], tuple[float, float]]:
    """The same map by TransformerLens's hooks, one whole run a cell: slow, for any architecture it knows.

    `cells` limits the work; the others stay NaN.
    """
    bridge = subject.bridge
    runs = {"clean": question.clean, "corrupted": question.corrupted}
    source, target = ("clean", "corrupted") if direction == "denoising" else ("corrupted", "clean")
    by_head = SITES[site][1] == "head"
    name = f"attn.hook_{site}" if by_head else f"hook_{site}"

    def metric(logits: Tensor) -> float:
        return float(logits[0, -1, question.answer] - logits[0, -1, question.wrong])

    with torch.no_grad():
        ends = tuple(metric(bridge(ids.unsqueeze(0))) for ids in runs.values())
        _, cache = bridge.run_with_cache(runs[source].unsqueeze(0), names_filter=lambda n: n.endswith(name))
        n_layers = subject.card.n_layers
        n_other = subject.card.n_heads if by_head else len(question.clean)
        values = torch.full((n_layers, n_other), float("nan"), dtype=subject.model.dtype)
        todo = cells if cells is not None else [(i, j) for i in range(n_layers) for j in range(n_other)]
        for done, (layer, other) in enumerate(todo):
            where = (slice(None), slice(None), other) if by_head else (slice(None), other)
            full = f"blocks.{layer}.{name}"

            def replace(activation: Tensor, hook: Any, where=where, full=full) -> Tensor:
                activation = activation.clone()
                activation[where] = cache[full][where]
                return activation

            values[layer, other] = metric(bridge.run_with_hooks(runs[target].unsqueeze(0), fwd_hooks=[(full, replace)]))
            if progress is not None and done % 8 == 0:
                progress((done + 1) / len(todo), f"{site}: {done + 1} of {len(todo)} hooked runs")
    return values, (ends[0], ends[1])
