"""Making interventions: ablations, steering vectors, and the question which heads a task needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.causal.branches import Branches, Recording
from workbench.interp.causal.metrics import metric_of
from workbench.interp.causal.packed import UnpackableError, engine, reader
from workbench.interp.causal.pairs import Pair
from workbench.interp.causal.probes import generate, read_probe
from workbench.interp.causal.probing import require
from workbench.interp.causal.reader import plain_reader
from workbench.interp.causal.sweep import Progress, reference_ids, split
from workbench.interp.texts import TEXTS
from workbench.modes import own_modes
from workbench.provenance import Provenance
from workbench.public import public
from workbench.records import Record, stamp
from workbench.statistics import Difference, Estimate, cell_statistics, estimate_mean, paired_difference
from workbench.subjects import Subject, SubjectOrName, load
from workbench.subjects.intervention import Edit, Intervention

KINDS = {
    "zero": "set to 0",
    "mean": "set to its mean over reference texts",
    "resample": "set to what it is at one random token of the reference texts",
}
REFERENCE = 48
"""Tokens of each reference text that means are taken over."""


def parse_heads(text: str) -> list[tuple[int, int]]:
    """Heads from words such as "L3H1, L5H0". Raises `WorkbenchError` for anything else."""
    found = []
    for word in text.replace(",", " ").split():
        layer, _, head = word.upper().removeprefix("L").partition("H")
        if not (layer.isdigit() and head.isdigit()):
            raise WorkbenchError(f"{word!r} is no head; write heads as L3H1, with commas between them.")
        found.append((int(layer), int(head)))
    if not found:
        raise WorkbenchError("No head was named; write heads as L3H1, with commas between them.")
    return sorted(set(found))


@public("subject", loads=True)
@own_modes
def ablation(
    subject: SubjectOrName,
    heads: Sequence[tuple[int, int]] = (),
    *,
    neurons: dict[int, Sequence[int]] | None = None,
    layers: Sequence[int] = (),
    replacement: str = "mean",
    name: str = "",
    base: str = "",
    seed: int = 0,
) -> Intervention:
    """An intervention that takes heads (layer, head), neurons (of a layer) or whole layers out of the model.

    Means and resampled values are computed here, over paragraphs of public-domain books, and written into it. An
    ablated layer adds nothing (`zero`) or a constant to the stream. `base` is what `load` takes; the model's own name
    without it. Raises `WorkbenchError` for an unknown replacement or a
    part that the model does not have.
    """
    if replacement not in KINDS:
        raise WorkbenchError(f"The ablation is {replacement!r}; choose one of {', '.join(KINDS)}.")
    base = base or _name_of(subject)
    subject = load(subject)
    card = subject.card
    for layer, head in heads:
        if layer >= card.n_layers or head >= card.n_heads:
            raise WorkbenchError(
                f"{subject.name} has no head L{layer}H{head}; it has {card.n_layers} layers of {card.n_heads} heads."
            )
    for layer in neurons or {}:
        reader(subject).need_neurons(layer)
    value = _values(subject, replacement, seed)
    edits = [Edit(layer, "z", (head,), "set", value("z", layer, head)) for layer, head in heads]
    for layer, which in (neurons or {}).items():
        edits.append(Edit(layer, "post", tuple(which), "set", value("post", layer, list(which))))
    for layer in layers:
        edits += [Edit(layer, site, (), "set", value(site, layer, slice(None))) for site in ("attn_out", "mlp_out")]
    if not edits:
        raise WorkbenchError("Nothing was named to take out; give heads, neurons or layers.")
    parts = [f"L{i}H{j}" for i, j in heads] + [f"layer {i}" for i in layers]
    parts += [f"{len(which)} neurons of layer {i}" for i, which in (neurons or {}).items()]
    words = f"{', '.join(parts)} {KINDS[replacement]}"
    return _made_for(
        subject,
        Intervention(name or f"{replacement}-{'-'.join(parts)[:60]}".replace(" ", ""), base, tuple(edits), words),
    )


def _name_of(source: SubjectOrName) -> str:
    """What `load` takes to have the model again, as far as a loaded one knows."""
    return source.name if isinstance(source, Subject) else str(source)


def _made_for(subject: Subject, change: Intervention) -> Intervention:
    """The intervention, with the hash of the model whose activations went into it."""
    stamp(change, Provenance("", models={subject.name: subject.hash}))
    return change


def _values(subject: Subject, kind: str, seed: int) -> Callable[[str, int, Any], Any]:
    """(site, layer, index) -> what an ablated part is set to."""
    if kind == "zero":
        return lambda site, layer, index: 0.0
    if not reader(subject).blocks:  # it raises where the parts are not known
        raise WorkbenchError(f"{subject.name} has no layers to take anything out of.")
    run = reference_run(subject)
    generator = torch.Generator().manual_seed(seed)
    n_text, n_pos = run.resid[0].shape[:2]
    text, pos = (int(torch.randint(low, high, (1,), generator=generator)) for low, high in ((0, n_text), (1, n_pos)))

    def value(site: str, layer: int, index: Any) -> Any:
        found: Tensor = getattr(run, site)[layer]
        return (found[:, 1:].mean((0, 1)) if kind == "mean" else found[text, pos])[index].tolist()

    return value


def reference_run(subject: Subject) -> Recording:
    """A recording of the reference texts (their first token, which is unlike all others, is left out of means)."""
    return reader(subject).record(reference_ids(subject, min(REFERENCE, subject.n_ctx)))


@public("subject", loads=True)
@own_modes
def steering(
    subject: SubjectOrName,
    positive: Sequence[str],
    negative: Sequence[str],
    *,
    layer: int,
    strength: float = 1.0,
    method: str = "mean",
    name: str = "steered",
    base: str = "",
) -> Intervention:
    """A steering vector added to the stream after `layer`: from prompts that have a quality and prompts that lack it.

    `method`: "mean", the difference of the means at the last token (Turner et al. 2023, Panickssery et al. 2024), or
    "svd", the first singular direction of the paired differences, as long as their mean. Raises `WorkbenchError` for
    unequally many prompts or none, and for a layer that does not exist.
    """
    if not positive or len(positive) != len(negative):
        raise WorkbenchError(
            f"Steering needs as many prompts with the quality as without, at least one; got {len(positive)} and "
            f"{len(negative)}."
        )
    base = base or _name_of(subject)
    subject = load(subject)
    if not 0 <= layer < subject.card.n_layers:
        raise WorkbenchError(f"{subject.name} has no layer {layer}; it has {subject.card.n_layers}.")
    packed = reader(subject)
    sides = [
        torch.stack([packed.record(subject.encode(text)).resid[layer + 1][0, -1] for text in texts])
        for texts in (positive, negative)
    ]
    difference = sides[0] - sides[1]
    vector = difference.mean(0)
    if method == "svd":
        first = torch.linalg.svd(difference, full_matrices=False).Vh[0]
        vector = first * torch.sign(first @ vector) * vector.norm()
    elif method != "mean":
        raise WorkbenchError(f"The method is {method!r}; choose mean or svd.")
    edit = Edit(layer, "resid_post", (), "add", (vector * strength).tolist())
    words = f"{strength:g} x the direction from {len(negative)} to {len(positive)} prompts, after layer {layer}"
    return _made_for(subject, Intervention(name, base, (edit,), words))


@dataclass(frozen=True)
class Needed(Record):
    """What a probe loses when one head is taken out, for every head, over the same `n` pairs.

    `loss`, `low`, `high`, `p` are `[layer, head]`: the share of the clean runs' metric that goes, with its paired 95 %
    interval and p corrected over the heads; `engine` says how the runs were made.
    """

    subject: str
    sha256: str
    probe: str
    kind: str
    metric_name: str
    intact: Estimate
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    n: int
    engine: str = "packed"

    def headline(self) -> str:
        """What was found, in a few words."""
        first = self.to_frame().iloc[0]
        lost = f"loses {first['loss']:.3f} [{first['low']:.3f}, {first['high']:.3f}] of the {self.metric_name}"
        return f"{self.probe} without {first['head']} ({self.kind}) {lost}"

    def to_frame(self) -> pd.DataFrame:
        """One row a head, the most needed first."""
        layer, head = np.indices(self.loss.shape).reshape(2, -1)
        columns = {"head": [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)], "layer": layer, "index": head}
        maps = {name: getattr(self, name).ravel() for name in ("loss", "low", "high", "p")}
        return pd.DataFrame({**columns, **maps}).sort_values("loss", ascending=False, ignore_index=True)


@public("subject")
@own_modes
def needed_heads(
    subject: SubjectOrName,
    probe: str,
    *,
    n: int = 20,
    replacement: str = "mean",
    seed: int = 0,
    progress: Progress | None = None,
) -> Needed:
    """Which heads does a probe need? Each head is taken out alone, at all positions, and the probe asked again.

    Exact, by the packed engine or, where that cannot run the model, by hooks; the clean prompts are run, and the loss
    is paired over them. Raises `WorkbenchError` for a model that cannot do the probe, and an unknown replacement.
    """
    if replacement not in KINDS:
        raise WorkbenchError(f"The ablation is {replacement!r}; choose one of {', '.join(KINDS)}.")
    asked = read_probe(probe)
    made = generate(subject, asked, n, seed)
    require(subject, asked, seed)
    value = _values(subject, replacement, seed)
    n_layers, n_heads = subject.card.n_layers, subject.card.n_heads
    given = [
        torch.tensor([value("z", i, h) for h in range(n_heads)], dtype=subject.model.dtype, device=subject.device)
        if replacement != "zero"
        else torch.zeros(n_heads, 1, dtype=subject.model.dtype, device=subject.device)
        for i in range(n_layers)
    ]
    try:
        engine(subject)
        without, how = _packed_without_each, "packed"
    except UnpackableError as error:
        without, how = _hooked_without_each, f"hooks ({error})"
    intact, samples = [], []
    for done, item in enumerate(made.items):
        clean, values = without(subject, item.pair, asked.metric, given)
        intact.append(clean)
        samples.append(clean - values)
        if progress is not None:
            progress((done + 1) / len(made.items), f"pair {done + 1} of {len(made.items)}")
    found = cell_statistics(np.stack(samples), per=np.array(intact))
    return Needed(
        subject.name,
        subject.hash,
        probe,
        replacement,
        asked.metric,
        estimate_mean(intact),
        found.mean,
        found.low,
        found.high,
        found.p,
        len(made.items),
        how,
    )


def _packed_without_each(
    subject: Subject, pair: Pair, metric_name: str, given: list[Tensor]
) -> tuple[float, Float[np.ndarray, "layer head"]]:
    """The metric of the clean run, and without each head (set to `given[layer][head]` everywhere), packed."""
    packed = engine(subject)
    run = packed.record(pair.clean.unsqueeze(0))
    metric = metric_of(metric_name, pair, run.logits[0, -1])
    values = torch.empty(len(given), len(given[0]), dtype=torch.float64)
    branches = [_without_each(packed, run, layer, given[layer]) for layer in range(len(given))]
    for chunk in split(branches, run, 1.0):
        for branch, finals in packed.carry(run, 0, chunk, last=metric.reads):
            values[branch.key] = metric.of(packed.logits(finals, metric.tokens)).double().cpu()
    return float(metric(run.logits)[0]), values.numpy()


def _hooked_without_each(
    subject: Subject, pair: Pair, metric_name: str, given: list[Tensor]
) -> tuple[float, Float[np.ndarray, "layer head"]]:
    """The same by one whole run a head."""
    plain, ids = plain_reader(subject), pair.clean.unsqueeze(0)
    logits = plain.run(ids)
    metric = metric_of(metric_name, pair, logits[0, -1])
    values = np.empty((len(given), len(given[0])))
    for layer, head in np.ndindex(values.shape):

        def without(z: Tensor, layer: int = layer, head: int = head) -> Tensor:
            z = z.clone()
            z[:, :, head] = given[layer][head]
            return z

        with plain.changed("z", layer, without):
            values[layer, head] = float(metric(plain.run(ids))[0])
    return float(metric(logits)[0]), values


def _without_each(packed: Any, run: Recording, layer: int, given: Tensor) -> Branches:
    """One run a head of this layer, with the head's output set to `given[head]` at every position."""

    def make() -> Tensor:
        z = run.z[layer][0]
        n_heads = z.shape[1]
        patched = z.repeat(n_heads, 1, 1, 1)
        for head in range(n_heads):
            patched[head, :, head] = given[head]
        return packed.block(run, 0, layer, torch.arange(len(z), device=z.device), z=patched)

    return Branches(layer + 1, 0, run.z[layer].shape[2], make, layer)


@dataclass(frozen=True)
class Effect(Record):
    """What an intervention does, paired: the probe's metric on its clean prompts, and the loss on ordinary text."""

    base: str
    edited: str
    probe: str
    metric_name: str
    metric: Difference
    loss: Difference

    def headline(self) -> str:
        """What was found, in a few words."""
        return f"{self.probe}, {self.metric_name} {self.metric.difference:+.3f}; loss {self.loss.difference:+.4f} nats"

    def to_frame(self) -> pd.DataFrame:
        """Two rows: the probe's metric, and the loss on ordinary text."""
        rows = [
            {"measure": name, **vars(found)} for name, found in ((self.metric_name, self.metric), ("loss", self.loss))
        ]
        return pd.DataFrame(rows)


@public("base", "edited")
@own_modes
def effect_of(base: SubjectOrName, edited: SubjectOrName, probe: str, *, n: int = 50, seed: int = 1) -> Effect:
    """Base and edited model on the same `n` fresh pairs of a probe, and on paragraphs of public-domain books.

    The loss is in nats a token, one number a paragraph.
    """
    asked = read_probe(probe)
    made = generate(base, asked, n, seed)
    metrics: list[list[float]] = [[], []]
    for item in made.items:
        for side, subject in enumerate((base, edited)):
            with torch.no_grad():
                logits = subject.model(item.pair.clean[None], logits_to_keep=1).logits
            metrics[side].append(float(metric_of(asked.metric, item.pair, logits[0, -1])(logits)[0]))
    return Effect(
        base.name,
        edited.name,
        probe,
        asked.metric,
        paired_difference(metrics[0], metrics[1]),
        cost_of(base, edited),
    )


def cost_of(base: Subject, edited: Subject) -> Difference:
    """What an edit costs on ordinary text: the loss on paragraphs of public-domain books, in nats a token, paired."""
    losses = [[_loss(subject, text) for text in TEXTS] for subject in (base, edited)]
    return paired_difference(losses[0], losses[1])


@torch.no_grad()
def _loss(subject: Subject, text: str) -> float:
    ids = torch.tensor([subject.ids(text)[: subject.n_ctx]], device=subject.device)
    logs = subject.model(ids).logits[0, :-1].float().log_softmax(-1)
    return float(-logs.gather(-1, ids[0, 1:, None]).mean())
